"""Clients and leaf links in the accounts that JWTs make: who may stay when claims change, and who must go at a time."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from leafnode.route.account import Account
from leafnode.route.auth import USER_EXPIRED, User
from leafnode.route.claims import AccountClaims
from leafnode.route.trust import Trust

USER_REVOKED = "User Authentication Revoked"
ACCOUNT_EXPIRED = "Account Authentication Expired"
TOO_MANY = "maximum account active connections exceeded"


class Connected(Protocol):
    """A client's session or a leaf link."""

    closing: bool

    @property
    def user(self) -> User | None: ...
    @property
    def account(self) -> Account | None: ...
    def fail(self, text: str, reason: str) -> None: ...
    def forget_routes(self) -> None: ...
    def renew(self, user: User) -> None: ...


class Members:
    """Everybody who is connected."""

    def __init__(
        self, connected: Callable[[], Iterable[Connected]], accounts: Mapping[str, Account], trust: Trust
    ) -> None:
        """`connected()`: clients and accepted links, oldest first."""
        self._connected = connected
        self._accounts = accounts
        self._trust = trust

    def recheck(self, claims: AccountClaims, before: AccountClaims | None) -> None:
        """Who may stay under changed claims, and with which permissions."""
        kept = 0
        scopes = before.signing_keys if before is not None else claims.signing_keys
        for each in self._members(claims.id):
            user = each.user
            if user is not None and claims.has_revoked(user.nkey, user.issued_s):
                each.fail(USER_REVOKED, "Credentials Revoked")
            elif user is not None and user.is_bearer and claims.disallow_bearer:
                each.fail("Authorization Violation", "Authentication Failure")
            elif user is not None and not self._may_stay(user, claims, scopes):
                each.fail("", "Authentication Failure")
            elif 0 <= claims.max_connections <= kept:
                each.fail(TOO_MANY, "Maximum Account Connections Exceeded")
            else:
                kept += 1
                if user is not None and user.takes_default and user.permissions != claims.default_permissions:
                    each.renew(dataclasses.replace(user, permissions=claims.default_permissions))
                else:
                    each.forget_routes()
        self._accounts[claims.id].forget_all_routes()

    def _may_stay(self, user: User, claims: AccountClaims, scopes: Mapping[str, Mapping[str, Any] | None]) -> bool:
        """Whether who signed a user still may, and within the same scope."""
        signer = user.signer
        is_rescoped = signer in claims.signing_keys and claims.signing_keys[signer] != scopes.get(signer)
        return self._trust.is_issuer(signer, claims) and not is_rescoped

    def _members(self, account: str) -> list[Connected]:
        """Who is connected in an account, oldest first."""
        everybody = self._connected()
        return [each for each in everybody if each.account is not None and each.account.name == account]

    def close_account(self, account: str) -> None:
        for each in self._members(account):
            each.fail(ACCOUNT_EXPIRED, "Account Authentication Expired")

    def expire(self, now_s: float) -> list[float]:
        """Close whose time is over; returns the times (s) at which others must go."""
        ends = []
        for each in self._connected():
            end_s = each.user.ends_s if each.user is not None else 0
            if 0 < end_s <= now_s:
                each.fail(USER_EXPIRED, "Authentication Expired")
            elif end_s:
                ends.append(end_s)
        return ends
