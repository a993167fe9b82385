"""How much one account may have; -1 = no limit. Connections are of the account, the rest is of each connection."""

from typing import NamedTuple

UNLIMITED = -1


class Limits(NamedTuple):
    max_connections: int = UNLIMITED
    """Clients and links together."""
    max_leafnodes: int = UNLIMITED
    max_subscriptions: int = UNLIMITED
    max_payload: int = UNLIMITED
    """Bytes."""


def lowest(*limits: int) -> int:
    """The lowest of limits, of which negative ones are none."""
    return min((limit for limit in limits if limit >= 0), default=UNLIMITED)
