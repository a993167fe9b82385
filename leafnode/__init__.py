"""Fleetleaf's broker: a NATS leaf node for small Linux devices."""

__version__ = "0.1.0"
