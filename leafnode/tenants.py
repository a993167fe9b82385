"""Operator mode: accounts that JWTs make, and the clients in them for as long as the JWTs hold.

    CONNECT {jwt, sig} --authenticate--> trust.admit --lookup--> claims of the account <-- resolver
    a new account JWT  --update--> resolver, then the account's limits, then who may stay among those connected

All accounts that the resolver knows exist from the start, so that JetStream is there before their first client. What
ends by the clock (users, their hours, whole accounts) is watched by one task that sleeps until the next end.
"""

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from leafnode.claimed import config_of
from leafnode.config.options import AccountConfig, Config, ExportConfig, ImportConfig
from leafnode.errors import ConfigError, TrustError
from leafnode.imports import Imports
from leafnode.net import secrets
from leafnode.net.resolver import Resolver
from leafnode.route.account import Account
from leafnode.route.activation import Wish, check_activation
from leafnode.route.auth import ARRIVAL, Arrival, Authenticator, User
from leafnode.route.claims import AccountClaims, account_claims
from leafnode.route.jwt import Token, decode, texts
from leafnode.route.trust import Trust
from leafnode.route.validity import faults

USER_EXPIRED = "User Authentication Expired"
USER_REVOKED = "User Authentication Revoked"
ACCOUNT_EXPIRED = "Account Authentication Expired"
TOO_MANY = "maximum account active connections exceeded"
LONGEST_SLEEP_SECONDS = 60.0  # a clock that was set forward is noticed after it
ACTIVATIONS_MAX = 4096  # tokens whose signature is not checked again; about 1 KB each
LOOK_SECONDS = 60.0  # between looks at the resolver's folder where no interval is configured

UPDATE_FAILED = "jwt update resulted in error"

log = logging.getLogger("leafnode.auth")


class RefusedUpdateError(TrustError):
    """An account's new JWT is not taken."""

    def __init__(self, account: str, what: str, why: str) -> None:
        super().__init__(f"{what} - {why}")
        self.account = account


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


class Surroundings(Protocol):
    """What tenants need of the broker."""

    accounts: dict[str, Account]

    def make_account(self, name: str) -> Account: ...
    def furnish(self, settings: AccountConfig) -> None:
        """Give an account its mappings and limits."""
        ...

    def connected(self) -> Iterable[Connected]:
        """Clients and accepted links, oldest first."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Doorkeeper(Authenticator):
    """Asks the tenants instead of a list of users."""

    tenants: "Tenants"

    @property
    def required(self) -> bool:
        return True

    @property
    def wants_nonce(self) -> bool:
        return True

    def anonymous(self) -> User | None:
        return None

    def authenticate(self, options: Mapping[str, object], nonce: bytes, arrival: Arrival = ARRIVAL) -> User | None:
        return self.tenants.authenticate(options, nonce, arrival)


class Tenants:
    """One for a broker in operator mode."""

    def __init__(self, config: Config, around: Surroundings) -> None:
        """Raises ConfigError when operators, keys or preloaded accounts make no sense."""
        self._around = around
        rules = config.resolver
        assert rules is not None
        self.may_delete = rules.allow_delete
        self._look_s = rules.interval_s or LOOK_SECONDS
        try:
            self.trust = Trust.of(map(operator_text, config.operators), config.trusted_keys, secrets.check_signature)
        except TrustError as error:
            raise ConfigError(f"operator: {error}") from error
        folder = Path(rules.dir) if rules.kind == "full" else None
        self.resolver = Resolver(folder=folder, limit=rules.limit)
        self.system_account = _system_account(config, self.trust, has_folder=folder is not None)
        self.configs: dict[str, AccountConfig] = {}
        """Accounts as if they were configured, for what else is made of them."""
        self.imports = Imports(around.accounts, self._check_activation)
        self._problems: frozenset[str] = frozenset()  # of the imports, as last told
        self.attach: Callable[[], Awaitable[None]] = _nothing_to_attach
        self.doorkeeper = Doorkeeper(
            tenants=self, check_hash=secrets.check_hash, check_signature=secrets.check_signature
        )
        self._claims: dict[str, AccountClaims] = {}
        self._changed = asyncio.Event()
        self._attaching: set[asyncio.Task[None]] = set()
        self._preload(config.resolver_preload)

    def _preload(self, given: Mapping[str, str]) -> None:
        for account, text in given.items():
            try:
                claims = account_claims(text, self.trust.check_signature)
                if claims.id != account:
                    raise TrustError("the JWT is of another account")
                if self.resolver.folder is None or not self.resolver.get(account):
                    self.resolver.put(account, text)
            except TrustError as error:
                raise ConfigError(f"resolver_preload: account {account}: {error}") from error
        for account in self.resolver.ids():
            try:
                self._take(self.trust.account(self.resolver.get(account), time.time()))
            except TrustError as error:
                log.warning("account %s is not valid: %s", account, error)
        self._share()
        if self.system_account not in self._around.accounts:
            self._around.make_account(self.system_account)

    def reload(self, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        """Take over a changed `resolver_preload`; with a folder it only ever counts for accounts that are new."""
        if self.resolver.folder is not None:
            return
        for account in old.keys() - new.keys():
            self.delete(account)
        for account, text in new.items():
            if text != old.get(account):
                try:
                    self.update(text, account=account)
                except TrustError as error:
                    log.error("resolver_preload: the JWT of %s is not used: %s", account, error)

    # who may connect -----------------------------------------------------------------------------------------------

    def authenticate(self, options: Mapping[str, object], nonce: bytes, arrival: Arrival) -> User | None:
        """The user behind a CONNECT; None: refused, and why is in the log."""
        try:
            user = self.trust.admit(options, nonce, arrival, self.lookup, time.time())
        except TrustError as error:
            log.warning("refused from=%s: %s", arrival.address or "?", error)
            return None
        if user.ends_s:
            self._changed.set()
        return user

    def lookup(self, account: str) -> AccountClaims | None:
        """Claims of an account that hold now; the account exists then."""
        claims = self._claims.get(account)
        try:
            if claims is None:
                text = self.resolver.get(account)
                if not text:
                    return None
                claims = self.trust.account(text, time.time())
                self._take(claims)
                self._share()
                self.attach_soon()
            claims.token.check_time(time.time())
        except TrustError as error:
            log.warning("account %s is not valid: %s", account, error)
            return None
        return claims

    def _take(self, claims: AccountClaims) -> None:
        """Make the account what its claims say; what it shares comes with `_share`. Raises TrustError."""
        settings = config_of(claims)
        if claims.id not in self._around.accounts:
            self._around.make_account(claims.id)
        self._around.furnish(settings)
        self._claims[claims.id] = claims
        self.configs[claims.id] = settings
        self._changed.set()

    def _share(self) -> None:
        """Imports and exports as all accounts' claims say now."""
        problems = frozenset(self.imports.settle(self.configs))
        for problem in sorted(problems - self._problems):
            log.warning("%s", problem)
        self._problems = problems

    def _check_activation(self, importer: str, one: ImportConfig, export: ExportConfig) -> float:
        """Until when the token of an import holds. Raises TrustError."""
        if not one.token:
            raise TrustError("an activation token is required")
        exporter = self._claims[one.account]
        return check_activation(
            _activation(one.token),
            Wish(importer, one.account, one.kind, one.subject),
            is_signer=lambda key: self.trust.is_issuer(key, exporter),
            revocations=export.revocations,
            now_s=time.time(),
        )

    # JetStream -----------------------------------------------------------------------------------------------------

    def attach_soon(self) -> "asyncio.Task[None]":
        """JetStream for accounts that have none yet; limits for those that have it."""
        task = asyncio.create_task(self._attach(), name="attach accounts")
        self._attaching.add(task)
        task.add_done_callback(self._attaching.discard)
        return task

    async def _attach(self) -> None:
        await self.attach()

    # changes -------------------------------------------------------------------------------------------------------

    def update(self, text: str, *, account: str = "") -> str:
        """Take a new JWT of an account; returns the account's id. `account`: of which it must be.

        Raises:
            RefusedUpdateError: it is none of ours, or cannot be kept.
        """
        try:
            claims = account_claims(text, self.trust.check_signature)
        except TrustError as error:
            raise RefusedUpdateError(account or "n/a", UPDATE_FAILED, str(error)) from error
        if account and claims.id != account:
            raise RefusedUpdateError(account, UPDATE_FAILED, "subject does not match jwt content")
        if claims.token.issuer not in self.trust.keys:
            raise RefusedUpdateError(claims.id, UPDATE_FAILED, self.trust.distrust(claims.token.issuer))
        found = faults(claims, self.trust.check_signature)
        if found:
            raise RefusedUpdateError(claims.id, "jwt validation failed", f"validation errors: [{' '.join(found)}]")
        before = self._claims.get(claims.id)
        try:
            self.resolver.put(claims.id, text)
            self._take(claims)
        except TrustError as error:
            raise RefusedUpdateError(claims.id, UPDATE_FAILED, str(error)) from error
        self._share()
        self._recheck(claims, before)
        return claims.id

    def delete(self, account: str) -> bool:
        """Forget an account and close everything in it; False: there was none."""
        found = self.resolver.delete(account)
        self._claims.pop(account, None)
        self.configs.pop(account, None)
        self._share()
        if found:
            self._close_account(account)
        return found

    def delete_asked(self, text: str) -> int:
        """Delete the accounts that an operator's request names; returns how many they are.

        Raises:
            TrustError: nothing was deleted.
        """
        request = decode(text, "generic", self.trust.check_signature)
        accounts = texts(request.body, "accounts")
        reason = ""
        if request.issuer not in self.trust.keys:
            reason = "not signed by a trusted operator"
        elif not self.may_delete:
            reason = "delete must be enabled in server config"
        elif not accounts:
            reason = "malformed request"
        elif self.system_account in accounts:
            reason = "not allowed to delete system account"
        if reason:
            raise TrustError(f"delete accounts request by {request.issuer} failed - {reason}")
        for account in accounts:
            self.delete(account)
        return len(accounts)

    def _recheck(self, claims: AccountClaims, before: AccountClaims | None) -> None:
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
        self._around.accounts[claims.id].forget_all_routes()

    def _may_stay(self, user: User, claims: AccountClaims, scopes: Mapping[str, Mapping[str, Any] | None]) -> bool:
        """Whether who signed a user still may, and within the same scope."""
        signer = user.signer
        is_rescoped = signer in claims.signing_keys and claims.signing_keys[signer] != scopes.get(signer)
        return self.trust.is_issuer(signer, claims) and not is_rescoped

    def _members(self, account: str) -> list[Connected]:
        """Who is connected in an account, oldest first."""
        everybody = self._around.connected()
        return [each for each in everybody if each.account is not None and each.account.name == account]

    def _close_account(self, account: str) -> None:
        for each in self._members(account):
            each.fail(ACCOUNT_EXPIRED, "Account Authentication Expired")

    # the clock -----------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """End what ends by the clock, and look at the resolver's folder; until cancelled."""
        look_at = time.monotonic() + self._look_s
        while True:
            self._changed.clear()
            next_end_s = self._end_what_is_over(time.time())
            if time.monotonic() >= look_at:
                self._look_again()
                look_at = time.monotonic() + self._look_s
            seconds = min(next_end_s - time.time(), look_at - time.monotonic(), LONGEST_SLEEP_SECONDS)
            try:
                async with asyncio.timeout(max(seconds, 0.0)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _end_what_is_over(self, now_s: float) -> float:
        """Returns when the next thing ends."""
        activation_end_s = self.imports.next_end_s()
        if 0 < activation_end_s <= now_s:
            self._share()
            activation_end_s = self.imports.next_end_s()
        ends = [activation_end_s] if activation_end_s else []
        for account, claims in self._claims.items():
            if 0 < claims.token.expires_s <= now_s:
                self._close_account(account)
            elif claims.token.expires_s:
                ends.append(float(claims.token.expires_s))
        for each in self._around.connected():
            end_s = each.user.ends_s if each.user is not None else 0
            if 0 < end_s <= now_s:
                each.fail(USER_EXPIRED, "Authentication Expired")
            elif end_s:
                ends.append(end_s)
        return min(ends, default=now_s + LONGEST_SLEEP_SECONDS)

    def _look_again(self) -> None:
        for account in self.resolver.rescan():
            try:
                self.update(self.resolver.get(account), account=account)
            except TrustError as error:
                log.warning("resolver: the JWT of %s is not used: %s", account, error)
        self.attach_soon()


def operator_text(given: str) -> str:
    """An operator's JWT, or what the file of that name holds. Raises ConfigError."""
    if given.count(".") == 2 and given.startswith("ey"):
        return given
    try:
        text = Path(given).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"operator: {given!r} is neither a JWT nor a file that can be read") from error
    return next((line.strip() for line in text.splitlines() if line.startswith("ey")), "")


def _system_account(config: Config, trust: Trust, *, has_folder: bool) -> str:
    named = config.system_account if config.system_account.startswith("A") else trust.system_account
    if has_folder and not named:
        raise ConfigError(
            "using a resolver with a folder, the system account needs to be specified in the configuration or the "
            "operator's JWT: set system_account"
        )
    return named or config.system_account


@functools.lru_cache(maxsize=ACTIVATIONS_MAX)
def _activation(text: str) -> Token:
    """Raises TrustError."""
    return decode(text, "activation", secrets.check_signature)


async def _nothing_to_attach() -> None:
    """Without a store."""
