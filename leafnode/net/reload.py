"""A changed configuration taken over by the clients that are connected (spec monitoring-and-ops section 4).

Who is no longer a user is closed without a word; who may do less keeps its connection and loses the subscriptions that
are not allowed any more; limits, pings and tracing hold for everybody from now on.
"""

import logging

from leafnode.config.options import Config
from leafnode.net.server import ClientConnection, ClientHost
from leafnode.route.auth import Authenticator
from leafnode.route.renewal import renewed

USER_GONE = ("", "Credentials Revoked")  # what is said to a client whose user is no more, and why it was closed
OTHER_PASSWORD = ("Authorization Violation", "Authentication Failure")
TOO_MANY = "Maximum Connections Exceeded"

log = logging.getLogger("leafnode")


def take_over(host: ClientHost, config: Config, known: Authenticator, own: Authenticator | None = None) -> None:
    """Everything that clients notice. `known` was made from `config`; `own`: for listeners that have their own."""
    before, host.authenticator = host.authenticator, known
    _take_limits(host, config)
    for connection in list(host.connections.values()):
        if connection.entrance.authenticator is None:
            _check_user(host, connection, before, known)
        elif own is not None:
            _check_user(host, connection, connection.entrance.authenticator, own)
        connection.take_limits()
    _close_surplus(host)


def _take_limits(host: ClientHost, config: Config) -> None:
    host.max_payload = config.max_payload
    host.max_control_line = config.max_control_line
    host.max_pending = config.max_pending
    host.max_connections = config.max_connections
    host.max_subscriptions = max(config.max_subscriptions, 0)
    host.ping_max = config.ping_max
    host.write_deadline_s = config.write_deadline_s
    host.stalls = not config.no_fast_producer_stall
    host.entrance.auth_timeout_s = config.auth_timeout_s
    host.entrance.ping_interval_s = config.ping_interval_s


def _check_user(host: ClientHost, connection: ClientConnection, before: Authenticator, known: Authenticator) -> None:
    session = connection.session
    session.auth_required = known.anonymous() is None
    if session.user is None or session.closing:
        return
    user = renewed(session.user, before, known)
    if user is None:
        log.info("%s - closed: its user is gone or has another password", connection.name)
        still_there = any(other.name == session.user.name and other.nkey == session.user.nkey for other in known.users)
        session.fail(*(OTHER_PASSWORD if still_there else USER_GONE))
    elif user != session.user:
        session.renew(user)
    else:
        session.forget_routes()
    if session.account is not None:
        session.account.forget_all_routes()


def _close_surplus(host: ClientHost) -> None:
    """The youngest go first: they have the least to lose."""
    if host.max_connections <= 0:
        return
    numbers = sorted(cid for cid, connection in host.connections.items() if not connection.session.closing)
    for cid in numbers[host.max_connections :]:
        host.connections[cid].session.fail("maximum connections exceeded", TOO_MANY)
