"""Bytes to values and back: the NATS client and leaf-node protocols. Pure."""
