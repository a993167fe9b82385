"""Which JetStream this is (ADR-44)."""

API_LEVEL = 5  # all of nats-server 2.15
