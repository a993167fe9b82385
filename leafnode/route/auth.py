"""Who may connect as whom: user and password, token, nkey over a nonce.

Pure: the check of a bcrypt hash and of an Ed25519 signature come in as functions, because they need libraries.
Without any user, password or token configured everybody is welcome in the global account.
"""

import dataclasses
import hmac
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from leafnode.route.permissions import Permissions
from leafnode.route.verdict import Verdict

GLOBAL_ACCOUNT = "$G"
USER_EXPIRED = "User Authentication Expired"


class Arrival(NamedTuple):
    """How and from where somebody connects."""

    kind: str = "STANDARD"
    """As in `allowed_connection_types`: STANDARD, WEBSOCKET, LEAFNODE, …"""
    address: str = ""
    number: int = 0
    """Of the connection."""
    tls: Callable[[], dict[str, object]] | None = None
    """What to tell of the TLS of the connection, where it has any."""
    certificate: Mapping[str, Any] | None = None
    """Of the peer, where it may stand for a user; as `ssl.SSLObject.getpeercert()` gives it."""


ARRIVAL = Arrival()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One entry of the configuration, or who a JWT makes one: how it proves itself, where it lands, what it may do."""

    name: str = ""
    password: str = ""
    nkey: str = ""
    account: str = GLOBAL_ACCOUNT
    permissions: Permissions | None = None
    arrivals: frozenset[str] = frozenset()
    """Kinds of connection it may come by, as in `Arrival.kind`; empty = all."""
    label: str = ""
    """What a person calls it; and its account."""
    account_label: str = ""
    takes_default: bool = False
    """Its permissions are its account's default ones, and change with them."""
    signer: str = ""
    """Public key that made it a user, in operator mode; the fields below are only used there."""
    issued_s: int = 0
    ends_s: float = 0
    """When the connection must end, in seconds since 1970; 0 = never."""
    is_bearer: bool = False
    """It needed no signature."""
    max_subscriptions: int = -1
    max_payload: int = -1
    """Bytes; -1 = no limit of its own."""

    def may_arrive(self, arrival: Arrival) -> bool:
        return not self.arrivals or arrival.kind in self.arrivals


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Looks a CONNECT up among the configured users."""

    users: tuple[User, ...] = ()
    token: str = ""
    no_auth_user: str = ""
    check_hash: Callable[[str, str], bool]  # (given, bcrypt hash) -> same?
    check_signature: Callable[[str, bytes, str], bool]  # (nkey, nonce, signature as text) -> genuine?

    @property
    def required(self) -> bool:
        """What INFO says as auth_required: a client without credentials would be turned away."""
        return bool(self.users or self.token) and not self.no_auth_user

    @property
    def wants_nonce(self) -> bool:
        return any(user.nkey for user in self.users)

    def anonymous(self) -> User | None:
        """Who a client without credentials is; None: nobody."""
        if self.no_auth_user:
            return next((user for user in self.users if user.name == self.no_auth_user), None)
        return None if self.users or self.token else User()

    def authenticate(
        self, options: Mapping[str, object], nonce: bytes, arrival: Arrival = ARRIVAL
    ) -> User | Verdict[User] | None:
        """The user behind a CONNECT, None: refused, or that it is being asked for."""
        user = self._identify(options, nonce)
        return self.review(user if user is not None and user.may_arrive(arrival) else None, options, nonce, arrival)

    def review(
        self, user: User | None, options: Mapping[str, object], nonce: bytes, arrival: Arrival
    ) -> User | Verdict[User] | None:
        """What becomes of whoever was found: somebody else may have to decide."""
        return user

    def _identify(self, options: Mapping[str, object], nonce: bytes) -> User | None:
        nkey = _text(options, "nkey")
        if nkey:
            return self._by_nkey(nkey, nonce, _text(options, "sig"))
        name, password = _text(options, "user"), _text(options, "pass")
        given = _text(options, "auth_token")
        if self.token:
            return User() if self._same(given, self.token) else None
        if name or password or given:
            if not self.users:
                return self.anonymous()
            return self._by_password(name, password)
        return self.anonymous()

    def _by_password(self, name: str, password: str) -> User | None:
        for user in self.users:
            if user.name == name and not user.nkey and self._same(password, user.password):
                return user
        return None

    def _by_nkey(self, nkey: str, nonce: bytes, signature: str) -> User | None:
        if not self.users:
            return self.anonymous()
        for user in self.users:
            if user.nkey == nkey:
                return user if self.check_signature(nkey, nonce, signature) else None
        return None

    def _same(self, given: str, configured: str) -> bool:
        if configured.startswith("$2"):
            return self.check_hash(given, configured)
        return hmac.compare_digest(given.encode(), configured.encode())


def _text(options: Mapping[str, object], key: str) -> str:
    value = options.get(key)
    return value if isinstance(value, str) else ""
