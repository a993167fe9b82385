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
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from leafnode.callout import user_of_callout
from leafnode.claimed import config_of
from leafnode.config.options import AccountConfig, Config, ExportConfig, ImportConfig, ResolverConfig
from leafnode.errors import ConfigError, TrustError
from leafnode.fetching import Fetching
from leafnode.identity import SPOKEN_VERSION
from leafnode.imports import Imports
from leafnode.net import secrets
from leafnode.net.account_source import PeerSource, WebSource
from leafnode.net.callout import Desk
from leafnode.net.resolver import Resolver, is_account
from leafnode.net.tls import client_context
from leafnode.route.account import Account
from leafnode.route.activation import Wish, check_activation
from leafnode.route.auth import ARRIVAL, Arrival, Authenticator, User
from leafnode.route.callout import raw_user, shut_off
from leafnode.route.claims import (
    ANYBODY,
    AccountClaims,
    CalloutClaims,
    account_claims,
    has_own_rules,
    rules,
    user_claims,
)
from leafnode.route.jwt import Token, decode
from leafnode.route.message import Sink
from leafnode.route.trust import Trust
from leafnode.route.validity import faults
from leafnode.route.verdict import Verdict

USER_EXPIRED = "User Authentication Expired"
USER_REVOKED = "User Authentication Revoked"
ACCOUNT_EXPIRED = "Account Authentication Expired"
TOO_MANY = "maximum account active connections exceeded"
LONGEST_SLEEP_SECONDS = 60.0  # a clock that was set forward is noticed after it
ACTIVATIONS_MAX = 4096  # tokens whose signature is not checked again; about 1 KB each
FRESH_SECONDS = 1.0  # for which a fetched JWT is not fetched again (nats-server)
LOOK_SECONDS = 60.0  # between looks at the resolver's folder where no interval is configured


class Words(NamedTuple):
    """What became of an update, for whoever sent it."""

    done: str
    failed: str
    invalid: str
    skipped: str = ""


WORDS = Words("jwt updated", "jwt update resulted in error", "jwt validation failed")
CACHE_WORDS = Words(
    "jwt updated cache",
    "jwt update cache resulted in error",
    "jwt update cache validation failed",
    "jwt update cache skipped",
)

log = logging.getLogger("leafnode.auth")


class NotHereError(TrustError):
    """An account is not known here; it may be known elsewhere."""

    def __init__(self, account: str) -> None:
        super().__init__(f"account {account} is not here")
        self.account = account


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

    def authenticate(
        self, options: Mapping[str, object], nonce: bytes, arrival: Arrival = ARRIVAL
    ) -> User | Verdict[User] | None:
        return self.tenants.authenticate(options, nonce, arrival)


class Tenants:
    """One for a broker in operator mode."""

    def __init__(self, config: Config, around: Surroundings) -> None:
        """Raises ConfigError when operators, keys or preloaded accounts make no sense."""
        self._around = around
        self._sentinel = config.default_sentinel
        self._tls = config.resolver_tls
        self._remotes = [remote.account for remote in config.leafnodes.remotes]
        try:
            texts_of = map(operator_text, config.operators)
            self.trust = Trust.of(texts_of, config.trusted_keys, secrets.check_signature, SPOKEN_VERSION)
        except TrustError as error:
            raise ConfigError(f"operator: {error}") from error
        self.rules = rules = _resolver(config, self.trust)
        folder = Path(rules.dir) if rules.kind in ("full", "cache") else None
        self.resolver = Resolver(
            folder=folder, limit=rules.limit, evicts=rules.kind in ("cache", "url"), unlinks=rules.hard_delete
        )
        self.system_account = _system_account(config, self.trust, has_folder=folder is not None)
        self._look_s = rules.interval_s or LOOK_SECONDS
        pinned = config.resolver_pinned_accounts
        self._pinned = pinned | {self.system_account} if pinned else pinned
        self._check_sentinel()
        self.configs: dict[str, AccountConfig] = {}
        """Accounts as if they were configured, for what else is made of them."""
        self.imports = Imports(around.accounts, self._check_activation)
        self._problems: frozenset[str] = frozenset()  # of the imports, as last told
        self.attach: Callable[[], Awaitable[None]] = _nothing_to_attach
        self.doorkeeper = Doorkeeper(
            tenants=self, check_hash=secrets.check_hash, check_signature=secrets.check_signature
        )
        self._claims: dict[str, AccountClaims] = {}
        self.desk: Desk | None = None
        """Where services are asked who a client is."""
        self._fetching: Fetching | None = None
        self._peers: PeerSource | None = None
        self._fetched: dict[str, float] = {}  # account to when it was fetched (s, monotonic)
        self._background: set[asyncio.Task[None]] = set()
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
        for account in (self.system_account, *self._remotes):
            if account not in self._around.accounts:
                self._around.make_account(account)

    def _check_sentinel(self) -> None:
        """Raises ConfigError."""
        if not self._sentinel:
            return
        try:
            body = user_claims(self._sentinel, self.trust.check_signature).token.body
        except TrustError as error:
            raise ConfigError(f"default sentinel JWT not valid: {error}") from error
        is_perhaps_scoped = bool(body.get("issuer_account")) and not has_own_rules(body)
        if not body.get("bearer_token") and not is_perhaps_scoped:
            raise ConfigError("default sentinel must be a bearer token")

    def start(self, ourselves: Sink | None) -> None:
        """Where JWTs come from that are not here. `ourselves`: who answers in the system account; None: nobody."""
        if self.rules.kind == "url":
            context = client_context(self._tls) if self._tls is not None else None
            self._fetching = Fetching(WebSource(self.rules.url, self.rules.timeout_s, context), self._take_fetched)
        elif self.rules.kind in ("full", "cache") and ourselves is not None:
            system = self._around.accounts[self.system_account]
            self._peers = PeerSource(system, ourselves, self.rules.timeout_s)
            self._fetching = Fetching(self._peers, self._take_fetched)
        self._seek(account for account in (self.system_account, *self._remotes) if account not in self._claims)

    def close(self) -> None:
        if self._fetching is not None:
            self._fetching.close()
        for task in self._background:
            task.cancel()

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

    def authenticate(
        self, options: Mapping[str, object], nonce: bytes, arrival: Arrival
    ) -> User | Verdict[User] | None:
        """The user behind a CONNECT; None: refused, and why is in the log."""
        if self._sentinel and not self._shows_jwt(options):
            options = {**options, "jwt": self._sentinel}
        try:
            return self._admit(options, nonce, arrival)
        except NotHereError as error:
            verdict: Verdict[User] = Verdict()
            self._later(self._admit_later(error.account, verdict, lambda: self._admit(options, nonce, arrival)))
            return verdict
        except TrustError as error:
            log.warning("refused from=%s: %s", arrival.address or "?", error)
            return None

    def _shows_jwt(self, options: Mapping[str, object]) -> bool:
        try:
            user_claims(str(options.get("jwt") or ""), self.trust.check_signature)
        except TrustError:
            return False
        return True

    def _admit(self, options: Mapping[str, object], nonce: bytes, arrival: Arrival) -> User | Verdict[User]:
        """Raises TrustError; NotHereError where asking elsewhere may help."""
        user = self.trust.admit(options, nonce, arrival, self.lookup, time.time())
        callout = self._claims[user.account].callout
        if user.nkey in callout.users:
            user = shut_off(user)
        elif callout.users:
            return self._call_out(user, callout, (options, nonce, arrival))
        if user.ends_s:
            self._changed.set()
        return user

    async def _admit_later(
        self, account: str, verdict: Verdict[User], admit: Callable[[], User | Verdict[User]]
    ) -> None:
        """Ask elsewhere for an account, then decide."""
        found: User | Verdict[User] | None = None
        try:
            assert self._fetching is not None
            await self._fetching.fetch(account)
            found = admit()
        except TrustError as error:
            log.warning("refused: %s", error)
        finally:
            if isinstance(found, Verdict):
                found.then(verdict.settle)
            else:
                verdict.settle(found)

    # who a service says they are -----------------------------------------------------------------------------------

    def _call_out(
        self, user: User, callout: CalloutClaims, client: tuple[Mapping[str, object], bytes, Arrival]
    ) -> Verdict[User]:
        """Raises TrustError where it cannot be asked."""
        if callout.xkey or self.desk is None:
            raise TrustError(f"the auth callout of account {user.account} wants encryption (xkey), which is not there")
        options, nonce, arrival = client
        name = raw_user(options, user.nkey)
        return self.desk.ask(
            self._around.accounts[user.account],
            user.account,
            (options, nonce, arrival, name),
            lambda response, nkey: self._judge(user.account, response, nkey, arrival),
        )

    def _judge(self, asked: str, response: Token, nkey: str, arrival: Arrival) -> User:
        """Who the service of account `asked` says. Raises TrustError."""
        service = self._claims.get(asked)
        signer = str(response.body.get("issuer_account") or response.issuer)
        if service is None or (signer != asked and signer not in service.signing_keys):
            raise TrustError("auth callout signing key is unknown")
        user = user_claims(str(response.body["jwt"]), self.trust.check_signature)
        if user.token.subject != nkey:
            raise TrustError(f"expected authorized user of {nkey!r} but got {user.token.subject!r}")
        user.token.check_time(time.time())
        if (
            user.account not in (asked, *service.callout.allowed_accounts)
            and ANYBODY not in service.callout.allowed_accounts
        ):
            raise TrustError(f"account {user.account!r} not permitted for auth callout of account {asked!r}")
        account = self.lookup(user.account)
        if account is None or not self.trust.is_issuer(user.token.issuer, account, named=user.names_account):
            raise TrustError(f"user JWT issuer {user.token.issuer!r} is not known")
        found = user_of_callout(user.token, account.id, rules(user, account), arrival)
        self._changed.set()
        return shut_off(found) if account.id == asked else found

    def lookup(self, account: str) -> AccountClaims | None:
        """Claims of an account that hold now; the account exists then. Raises NotHereError."""
        if self._pinned and account not in self._pinned:
            raise TrustError(f"account {account} is not one of resolver_pinned_accounts")
        claims = self._claims.get(account)
        try:
            if claims is None:
                text = self.resolver.get(account)
                if not text:
                    self._look_elsewhere(account)
                    return None
                claims = self.trust.account(text, time.time())
                self._take(claims)
                self._share()
                self.attach_soon()
            claims.token.check_time(time.time())
        except NotHereError:
            raise
        except TrustError as error:
            log.warning("account %s is not valid: %s", account, error)
            self._look_elsewhere(account)
            return None
        return claims

    def _look_elsewhere(self, account: str) -> None:
        """Raises NotHereError if somebody else may know the account, or know it better."""
        if self._fetching is not None and is_account(account) and not self._is_fresh(account):
            raise NotHereError(account)

    def _is_fresh(self, account: str) -> bool:
        """Whether it was fetched a moment ago: what was found then is what there is."""
        return time.monotonic() - self._fetched.get(account, -FRESH_SECONDS) < FRESH_SECONDS

    async def _take_fetched(self, account: str, text: str) -> None:
        """Raises TrustError."""
        self._fetched[account] = time.monotonic()
        claims = self.trust.account(text, time.time())
        if claims.id != account:
            raise TrustError(f"the resolver gave another account's JWT for {account}")
        if text != self.resolver.get(account) or account not in self._claims:
            before = self._claims.get(account)
            self.resolver.put(account, text)
            self._take(claims)
            self._share()
            self._recheck(claims, before)
            await self.attach()

    def _seek(self, accounts: Iterable[str]) -> None:
        """Ask for accounts that nobody waits for."""
        fetching = self._fetching
        for account in accounts:
            if fetching is not None and is_account(account) and not fetching.tried_lately(account):
                self._later(self._fetch_quietly(fetching, account))

    async def _fetch_quietly(self, fetching: Fetching, account: str) -> None:
        try:
            await fetching.fetch(account)
        except TrustError as error:
            log.warning("account %s: %s", account, error)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="accounts from elsewhere")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

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
        if self._fetching is not None:
            wanted = {one.account for settings in self.configs.values() for one in settings.imports}
            self._seek(wanted - self.configs.keys())

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

    def update(self, text: str, *, account: str = "") -> tuple[str, str]:
        """Take a new JWT of an account; returns the account's id, and what was done. `account`: of which it must be.

        Raises:
            RefusedUpdateError: it is none of ours, or cannot be kept.
        """
        words = CACHE_WORDS if self.rules.kind == "cache" else WORDS
        try:
            claims = account_claims(text, self.trust.check_signature)
        except TrustError as error:
            raise RefusedUpdateError(account or "n/a", words.failed, str(error)) from error
        if account and claims.id != account:
            raise RefusedUpdateError(account, words.failed, "subject does not match jwt content")
        if claims.token.issuer not in self.trust.keys:
            raise RefusedUpdateError(claims.id, words.failed, self.trust.distrust(claims.token.issuer))
        if self.rules.kind == "cache" and claims.id not in self._claims:
            return claims.id, words.skipped
        found = faults(claims, self.trust.check_signature)
        if found:
            raise RefusedUpdateError(claims.id, words.invalid, f"validation errors: [{' '.join(found)}]")
        before = self._claims.get(claims.id)
        try:
            self.resolver.put(claims.id, text)
            self._take(claims)
        except TrustError as error:
            raise RefusedUpdateError(claims.id, words.failed, str(error)) from error
        self._share()
        self._recheck(claims, before)
        return claims.id, words.done

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
        accounts = request.body.get("accounts")
        reason = ""
        if not (self.rules.allow_delete or self.rules.kind == "cache"):
            reason = "delete must be enabled in server config"
        elif request.subject != request.issuer:
            reason = "not self signed"
        elif request.issuer not in self.trust.keys:
            reason = "not trusted"
        elif not isinstance(accounts, list) or not all(isinstance(name, str) and is_account(name) for name in accounts):
            reason = "malformed request"
        elif self.system_account in accounts:
            reason = "not allowed to delete system account"
        if reason:
            raise TrustError(f"delete accounts request by {request.subject} failed - {reason}")
        assert isinstance(accounts, list)
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
                self._later(self._follow_others())
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

    async def _follow_others(self) -> None:
        """What other servers know better, or what was fetched too long ago."""
        if self.rules.kind == "full" and self._peers is not None:
            for account, text in await self._peers.pack(self.resolver.digest()):
                self._take_if_newer(account, text)
            await self.attach()
        elif self.rules.ttl_s and self._fetching is not None:
            oldest = time.monotonic() - self.rules.ttl_s
            for account in [account for account, at in self._fetched.items() if at < oldest]:
                await self._fetch_quietly(self._fetching, account)

    def _take_if_newer(self, account: str, text: str) -> None:
        known = self._claims.get(account)
        try:
            theirs = account_claims(text, self.trust.check_signature)
            if known is None or theirs.token.issued_s > known.token.issued_s:
                self.update(text, account=account)
        except TrustError as error:
            log.warning("another server's JWT of %s is not used: %s", account, error)


def operator_text(given: str) -> str:
    """An operator's JWT, or what the file of that name holds. Raises ConfigError."""
    if given.count(".") == 2 and given.startswith("ey"):
        return given
    try:
        text = Path(given).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"operator: {given!r} is neither a JWT nor a file that can be read") from error
    return next((line.strip() for line in text.splitlines() if line.startswith("ey")), "")


def _resolver(config: Config, trust: Trust) -> ResolverConfig:
    """As configured, or as the operator says. Raises ConfigError."""
    if config.resolver is not None:
        return config.resolver
    if not trust.account_server_url.startswith(("http://", "https://")):
        raise ConfigError("operators require an account resolver to be configured: add 'resolver: MEMORY' or a block")
    return ResolverConfig(kind="url", url=f"{trust.account_server_url.rstrip('/')}/accounts/")


def _system_account(config: Config, trust: Trust, *, has_folder: bool) -> str:
    given = config.system_account if config.system_account.startswith("A") else ""
    if given and trust.system_account and given != trust.system_account:
        raise ConfigError("system_account in config and operator JWT must be identical")
    named = given or trust.system_account
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
