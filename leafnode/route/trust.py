"""Whom operators' keys make welcome: the checks on a CONNECT in operator mode, in nats-server's order. Pure.

    operator key  --signs-->  account JWT  --signs-->  user JWT  <--proves to be its subject--  client

Nothing here is asked twice: what can change while a client is connected (revocations, expiry, limits) is in the `User`
that it becomes, for `tenants.py` to look at again. Source: spec auth section 4.
"""

import dataclasses
import datetime
import ipaddress
import zoneinfo
from collections.abc import Callable, Iterable, Mapping

from leafnode.errors import TrustError
from leafnode.route.auth import Arrival, User
from leafnode.route.claims import AccountClaims, Rules, UserClaims, account_claims, operator_claims, rules, user_claims
from leafnode.route.jwt import CheckSignature
from leafnode.route.validity import faults

Lookup = Callable[[str], AccountClaims | None]
"""Account id to its claims, trusted; None: nobody knows it, or it is not trusted (any more)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """The keys that make accounts, and what follows from them."""

    keys: frozenset[str]
    check_signature: CheckSignature
    system_account: str = ""
    """As the operators say; empty: they do not."""
    strict: bool = False
    """Users must be signed with a signing key of their account too, not with its own."""
    operators: frozenset[str] = frozenset()
    """Their ids, whether or not they may sign accounts themselves."""

    account_server_url: str = ""
    """Where account JWTs are to be had, as an operator says; empty: none does."""

    @classmethod
    def of(
        cls, operators: Iterable[str], trusted_keys: Iterable[str], check_signature: CheckSignature, version: str = ""
    ) -> "Trust":
        """From operators' JWTs and bare public keys. `version`: ours. Raises TrustError."""
        known = [operator_claims(text, check_signature) for text in operators]
        for operator in known:
            if version and _numbers(operator.least_version) > _numbers(version):
                raise TrustError(
                    f"operator {operator.id} expected server version {operator.least_version}, this is {version}"
                )
        return cls(
            keys=frozenset((*trusted_keys, *(key for operator in known for key in operator.keys))),
            check_signature=check_signature,
            system_account=next((operator.system_account for operator in known if operator.system_account), ""),
            strict=any(operator.strict for operator in known),
            operators=frozenset(operator.id for operator in known),
            account_server_url=next((operator.account_server_url for operator in known), ""),
        )

    def account(self, text: str, now_s: float) -> AccountClaims:
        """An account's claims, from a trusted operator and in time. Raises TrustError."""
        claims = account_claims(text, self.check_signature)
        if claims.token.issuer not in self.keys:
            raise TrustError(f"account {claims.id}: {self.distrust(claims.token.issuer)}")
        wrong = faults(claims, self.check_signature)
        if wrong:
            raise TrustError(f"account {claims.id}: {wrong[0]}")
        claims.token.check_time(now_s)
        return claims

    def distrust(self, issuer: str) -> str:
        """Why an account by this issuer, who is not in `keys`, is none of ours."""
        if issuer in self.operators:
            return "operator requires issuer to be a signing key"
        return "not signed by a trusted operator"

    def admit(
        self, options: Mapping[str, object], nonce: bytes, arrival: Arrival, lookup: Lookup, now_s: float
    ) -> User:
        """Who the sender of a CONNECT is. Raises TrustError with the reason, which the client is not told."""
        text = options.get("jwt")
        if not isinstance(text, str) or not text:
            raise TrustError("a JWT is required and none was given")
        user = user_claims(text, self.check_signature)
        user.token.check_time(now_s)
        account = lookup(user.account)
        if account is None:
            raise TrustError(f"account {user.account} is unknown or not valid")
        if not self.is_issuer(user.token.issuer, account, named=user.names_account):
            raise TrustError(f"user {user.token.subject}: its issuer is not known to account {account.id}")
        granted = rules(user, account)
        if not granted.bearer or account.disallow_bearer:
            self._check_proof(user, options, nonce, granted)
        if account.has_revoked(user.token.subject, user.token.issued_s):
            raise TrustError(f"user {user.token.subject} is revoked")
        return _user(user, account, granted, window_end(granted, arrival, now_s))

    def is_issuer(self, key: str, account: AccountClaims, *, named: bool = True) -> bool:
        """Whether a key makes users of an account. `named`: the user says for which account a signing key signed."""
        if key == account.id:
            return not self.strict
        return named and key in account.signing_keys

    def _check_proof(self, user: UserClaims, options: Mapping[str, object], nonce: bytes, granted: Rules) -> None:
        if granted.bearer:
            raise TrustError(f"account {user.account} does not allow bearer tokens")
        signature = options.get("sig")
        if not isinstance(signature, str) or not self.check_signature(user.token.subject, nonce, signature):
            raise TrustError(f"user {user.token.subject} did not sign the nonce")


def _numbers(version: str) -> tuple[int, ...]:
    """`2.15.1` as numbers; empty: before all. Raises TrustError where it is no version."""
    parts = version.split(".") if version else []
    if parts and (len(parts) != 3 or not all(part.isdigit() for part in parts)):
        raise TrustError("asserted server version must be of the form <major>.<minor>.<update>")
    return tuple(map(int, parts))


def window_end(granted: Rules, arrival: Arrival, now_s: float) -> float:
    """When the time window that is open now ends, 0 if there are none. Raises TrustError where the user may not come
    in this way, from there, or now."""
    if granted.proxy_required:
        raise TrustError("the user may come through a trusted proxy only")
    if granted.connection_types and arrival.kind not in (kind.upper() for kind in granted.connection_types):
        raise TrustError(f"the user may not connect by {arrival.kind}")
    if granted.sources and not _comes_from(arrival.address, granted.sources):
        raise TrustError(f"the user may not connect from {arrival.address}")
    if not granted.times:
        return 0
    ends = [end for times in granted.times if (end := _end_of(times, granted.location, now_s))]
    if not ends:
        raise TrustError("the user may not connect at this time of day")
    return max(ends)


def _comes_from(address: str, sources: tuple[str, ...]) -> bool:
    try:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(net, strict=False) for net in sources)
    except ValueError:
        return False


def _end_of(times: tuple[str, str], location: str, now_s: float) -> float:
    """When a daily window that is open now ends; 0: it is closed, or makes no sense."""
    try:
        zone = zoneinfo.ZoneInfo(location) if location else None
        start, end = (datetime.time.fromisoformat(text) for text in times)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError):
        return 0
    now = datetime.datetime.fromtimestamp(now_s, zone)
    for day in (now.date(), now.date() - datetime.timedelta(days=1)):
        opened = datetime.datetime.combine(day, start, zone)
        closes = datetime.datetime.combine(day + datetime.timedelta(days=end < start), end, zone)
        if opened <= now < closes:
            return closes.timestamp()
    return 0


def _user(user: UserClaims, account: AccountClaims, granted: Rules, window_end_s: float) -> User:
    ends = [end for end in (user.token.expires_s, window_end_s) if end]
    return User(
        label=user.token.name,
        account_label=account.token.name,
        nkey=user.token.subject,
        account=account.id,
        permissions=granted.permissions,
        takes_default=granted.takes_default,
        signer=user.token.issuer,
        issued_s=user.token.issued_s,
        ends_s=min(ends, default=0),
        is_bearer=granted.bearer,
        max_subscriptions=granted.max_subscriptions,
        max_payload=granted.max_payload,
    )
