"""Who may come in, in operator mode: by JWT, perhaps after an account was fetched, perhaps after a service was asked.

CONNECT {jwt, sig} --trust.admit--> a user --its account has a callout?--> whom the service says
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from leafnode.callout import user_of_callout
from leafnode.errors import TrustError
from leafnode.net.callout import Desk, Service
from leafnode.route.account import Account
from leafnode.route.auth import ARRIVAL, Arrival, Authenticator, User
from leafnode.route.callout import raw_user, shut_off
from leafnode.route.claims import ANYBODY, AccountClaims, CalloutClaims, rules, user_claims
from leafnode.route.jwt import Token
from leafnode.route.trust import Trust
from leafnode.route.verdict import Verdict

log = logging.getLogger("leafnode.auth")


class NotHereError(TrustError):
    """An account is not known here; it may be known elsewhere."""

    def __init__(self, account: str) -> None:
        super().__init__(f"account {account} is not here")
        self.account = account


class Accounts(Protocol):
    """Who knows the accounts."""

    trust: Trust
    claims: dict[str, AccountClaims]

    def lookup(self, account: str) -> AccountClaims | None: ...
    def account(self, name: str) -> Account: ...
    def clock_changed(self) -> None:
        """Somebody is here who must go at a time."""
        ...

    async def fetch(self, account: str) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Doorkeeper(Authenticator):
    """Asks for JWTs instead of looking into a list of users."""

    admission: "Admission"

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
        return self.admission.authenticate(options, nonce, arrival)


class Admission:
    """Decides about each CONNECT."""

    def __init__(self, accounts: Accounts, sentinel: str) -> None:
        """`sentinel`: the JWT of who shows none; empty: nobody may."""
        self._accounts = accounts
        self._sentinel = sentinel
        self.desk: Desk | None = None
        """Where services are asked who a client is."""
        self._waiting: set[asyncio.Task[None]] = set()

    def authenticate(
        self, options: Mapping[str, object], nonce: bytes, arrival: Arrival
    ) -> User | Verdict[User] | None:
        """The user behind a CONNECT, or who it turns out to be later; None: refused, and why is in the log."""
        if self._sentinel and not self._shows_jwt(options):
            options = {**options, "jwt": self._sentinel}
        try:
            return self._admit(options, nonce, arrival)
        except NotHereError as error:
            verdict: Verdict[User] = Verdict()
            work = self._admit_later(error.account, verdict, lambda: self._admit(options, nonce, arrival))
            task = asyncio.create_task(work, name="admission")
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
            return verdict
        except TrustError as error:
            log.warning("refused from=%s: %s", arrival.address or "?", error)
            return None

    def _shows_jwt(self, options: Mapping[str, object]) -> bool:
        try:
            user_claims(str(options.get("jwt") or ""), self._accounts.trust.check_signature)
        except TrustError:
            return False
        return True

    def _admit(self, options: Mapping[str, object], nonce: bytes, arrival: Arrival) -> User | Verdict[User]:
        """Raises TrustError; NotHereError where asking elsewhere may help."""
        user = self._accounts.trust.admit(options, nonce, arrival, self._accounts.lookup, time.time())
        callout = self._accounts.claims[user.account].callout
        if user.nkey in callout.users:
            user = shut_off(user)
        elif callout.users:
            return self._call_out(user, callout, (options, nonce, arrival))
        if user.ends_s:
            self._accounts.clock_changed()
        return user

    async def _admit_later(
        self, account: str, verdict: Verdict[User], admit: Callable[[], User | Verdict[User]]
    ) -> None:
        """Ask elsewhere for an account, then decide."""
        found: User | Verdict[User] | None = None
        try:
            await self._accounts.fetch(account)
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
        if self.desk is None:
            raise TrustError("there is nobody to ask an auth service")
        options, nonce, arrival = client
        asked = user.account
        service = Service(self._accounts.account(asked), asked, callout.xkey)
        return self.desk.ask(
            service,
            (options, nonce, arrival, raw_user(options, user.nkey)),
            lambda response, nkey, is_sealed: self._judge(asked, response, nkey, arrival, is_sealed=is_sealed),
        )

    def _judge(self, asked: str, response: Token, nkey: str, arrival: Arrival, *, is_sealed: bool) -> User:
        """Who the service of account `asked` says; who could seal its answer needs no other key. Raises TrustError."""
        service = self._accounts.claims.get(asked)
        signer = str(response.body.get("issuer_account") or response.issuer)
        if service is None or not (is_sealed or signer == asked or signer in service.signing_keys):
            raise TrustError("auth callout signing key is unknown")
        user = user_claims(str(response.body["jwt"]), self._accounts.trust.check_signature)
        if user.token.subject != nkey:
            raise TrustError(f"expected authorized user of {nkey!r} but got {user.token.subject!r}")
        user.token.check_time(time.time())
        if (
            user.account not in (asked, *service.callout.allowed_accounts)
            and ANYBODY not in service.callout.allowed_accounts
        ):
            raise TrustError(f"account {user.account!r} not permitted for auth callout of account {asked!r}")
        account = self._accounts.lookup(user.account)
        if account is None or not self._accounts.trust.is_issuer(user.token.issuer, account, named=user.names_account):
            raise TrustError(f"user JWT issuer {user.token.issuer!r} is not known")
        found = user_of_callout(user.token, account.id, rules(user, account), arrival)
        self._accounts.clock_changed()
        return shut_off(found) if account.id == asked else found

    def close(self) -> None:
        for task in self._waiting:
            task.cancel()
