"""Forwarding: local streams copied to a hub's stream, each message once and in order. Pure: no clock, no sockets."""
