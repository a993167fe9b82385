"""Operator mode: accounts that JWTs make, and the clients in them for as long as the JWTs hold.

    CONNECT {jwt, sig} --admission--> lookup --> claims of the account <-- resolver <-- a web server, other servers
    a new account JWT  --update--> resolver, limits and mappings, imports of all accounts, who may stay (`members`)

All accounts that the resolver knows exist from the start, so that JetStream is there before their first client. What
ends by the clock (users, their hours, whole accounts) is watched by one task that sleeps until the next end.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from leafnode.admission import Admission, Doorkeeper, NotHereError
from leafnode.claimed import config_of
from leafnode.config.options import AccountConfig, Config, ExportConfig, ImportConfig
from leafnode.errors import ConfigError, TrustError
from leafnode.fetching import Fetching
from leafnode.imports import Imports
from leafnode.mandate import mandate_of
from leafnode.members import Connected, Members
from leafnode.net import secrets
from leafnode.net.account_source import PeerSource, WebSource
from leafnode.net.resolver import Resolver, is_account
from leafnode.net.tls import client_context
from leafnode.route.account import Account
from leafnode.route.activation import Wish, check_activation
from leafnode.route.claims import AccountClaims, account_claims
from leafnode.route.jwt import Token, decode
from leafnode.route.message import Sink
from leafnode.route.validity import faults

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


class RefusedUpdateError(TrustError):
    """An account's new JWT is not taken."""

    def __init__(self, account: str, what: str, why: str) -> None:
        super().__init__(f"{what} - {why}")
        self.account = account


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


class Tenants:
    """One for a broker in operator mode."""

    def __init__(self, config: Config, around: Surroundings) -> None:
        """Raises ConfigError when operators, keys or preloaded accounts make no sense."""
        self._around = around
        self._tls = config.resolver_tls
        self._remotes = [remote.account for remote in config.leafnodes.remotes]
        self.trust, self.rules, self.system_account, self._pinned = mandate_of(config)
        kind = self.rules.kind
        self.resolver = Resolver(
            folder=Path(self.rules.dir) if kind in ("full", "cache") else None,
            limit=self.rules.limit,
            evicts=kind in ("cache", "url"),
            unlinks=self.rules.hard_delete,
        )
        self._look_s = self.rules.interval_s or LOOK_SECONDS
        self.configs: dict[str, AccountConfig] = {}
        """Accounts as if they were configured, for what else is made of them."""
        self.imports = Imports(around.accounts, self._check_activation)
        self._problems: frozenset[str] = frozenset()  # of the imports, as last told
        self.attach: Callable[[], Awaitable[None]] = _nothing_to_attach
        self.claims: dict[str, AccountClaims] = {}
        self.admission = Admission(self, config.default_sentinel)
        self.doorkeeper = Doorkeeper(
            admission=self.admission, check_hash=secrets.check_hash, check_signature=secrets.check_signature
        )
        self._members = Members(around.connected, around.accounts, self.trust)
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

    def start(self, ourselves: Sink | None) -> None:
        """Where JWTs come from that are not here. `ourselves`: who answers in the system account; None: nobody."""
        if self.rules.kind == "url":
            context = client_context(self._tls) if self._tls is not None else None
            self._fetching = Fetching(WebSource(self.rules.url, self.rules.timeout_s, context), self._take_fetched)
        elif self.rules.kind in ("full", "cache") and ourselves is not None:
            system = self._around.accounts[self.system_account]
            self._peers = PeerSource(system, ourselves, self.rules.timeout_s)
            self._fetching = Fetching(self._peers, self._take_fetched)
        self._seek(account for account in (self.system_account, *self._remotes) if account not in self.claims)

    def close(self) -> None:
        self.admission.close()
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

    # what admission asks -------------------------------------------------------------------------------------------

    def account(self, name: str) -> Account:
        return self._around.accounts[name]

    def clock_changed(self) -> None:
        self._changed.set()

    async def fetch(self, account: str) -> None:
        """Returns when an account from elsewhere is here. Raises TrustError."""
        assert self._fetching is not None
        await self._fetching.fetch(account)

    def lookup(self, account: str) -> AccountClaims | None:
        """Claims of an account that hold now; the account exists then. Raises NotHereError."""
        if self._pinned and account not in self._pinned:
            raise TrustError(f"account {account} is not one of resolver_pinned_accounts")
        claims = self.claims.get(account)
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
        if text != self.resolver.get(account) or account not in self.claims:
            before = self.claims.get(account)
            self.resolver.put(account, text)
            self._take(claims)
            self._share()
            self._members.recheck(claims, before)
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
        self.claims[claims.id] = claims
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
        exporter = self.claims[one.account]
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
        if self.rules.kind == "cache" and claims.id not in self.claims:
            return claims.id, words.skipped
        found = faults(claims, self.trust.check_signature)
        if found:
            raise RefusedUpdateError(claims.id, words.invalid, f"validation errors: [{' '.join(found)}]")
        before = self.claims.get(claims.id)
        try:
            self.resolver.put(claims.id, text)
            self._take(claims)
        except TrustError as error:
            raise RefusedUpdateError(claims.id, words.failed, str(error)) from error
        self._share()
        self._members.recheck(claims, before)
        return claims.id, words.done

    def delete(self, account: str) -> bool:
        """Forget an account and close everything in it; False: there was none."""
        found = self.resolver.delete(account)
        self.claims.pop(account, None)
        self.configs.pop(account, None)
        self._share()
        if found:
            self._members.close_account(account)
            self.attach_soon()
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
        for account, claims in self.claims.items():
            if 0 < claims.token.expires_s <= now_s:
                self._members.close_account(account)
            elif claims.token.expires_s:
                ends.append(float(claims.token.expires_s))
        ends += self._members.expire(now_s)
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
        known = self.claims.get(account)
        try:
            theirs = account_claims(text, self.trust.check_signature)
            if known is None or theirs.token.issued_s > known.token.issued_s:
                self.update(text, account=account)
        except TrustError as error:
            log.warning("another server's JWT of %s is not used: %s", account, error)


@functools.lru_cache(maxsize=ACTIVATIONS_MAX)
def _activation(text: str) -> Token:
    """Raises TrustError."""
    return decode(text, "activation", secrets.check_signature)


async def _nothing_to_attach() -> None:
    """Without a store."""
