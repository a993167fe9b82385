"""Auth callout as the configuration has it: users of the file are known, but a service has the last word about most.

Who is asked about: whoever is not one of `auth_users`, also a user of the file, unless `allowed_accounts` are named and
its account is none of them. A service that is not there refuses everybody else.
"""

import dataclasses
import logging
import time
from collections.abc import Mapping

from leafnode.config.options import GLOBAL_ACCOUNT, AuthCallout, Config
from leafnode.errors import TrustError
from leafnode.net import secrets
from leafnode.net.callout import Desk, Service
from leafnode.route.account import Account
from leafnode.route.auth import Arrival, Authenticator, User
from leafnode.route.callout import raw_user, shut_off
from leafnode.route.claims import Rules, own_rules, user_claims
from leafnode.route.jwt import Token
from leafnode.route.trust import window_end
from leafnode.route.verdict import Verdict

log = logging.getLogger("leafnode.auth")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CalledOut(Authenticator):
    """Asks the service, about whoever the users of the file do not settle."""

    desk: Desk
    rules: AuthCallout
    accounts: Mapping[str, Account]

    @property
    def required(self) -> bool:
        return True

    @property
    def wants_nonce(self) -> bool:
        return True

    def anonymous(self) -> User | None:
        return None

    def review(
        self, user: User | None, options: Mapping[str, object], nonce: bytes, arrival: Arrival
    ) -> User | Verdict[User] | None:
        name = raw_user(options) or (self.no_auth_user if user is not None else "")
        if user is not None and not self._is_delegated(user, arrival):
            return user
        if name in self.rules.auth_users:
            return self._shut_off(user) if user is not None else None
        service = Service(self.accounts[self.rules.account], self.rules.issuer, self.rules.xkey)
        client = (options, nonce, arrival, name)
        try:
            return self.desk.ask(service, client, lambda response, nkey, _: self._judge(response, nkey, arrival))
        except TrustError as error:
            log.warning("%s", error)
            return None

    def _is_delegated(self, user: User, arrival: Arrival) -> bool:
        allowed = self.rules.allowed_accounts
        return arrival.kind == "LEAFNODE" or user.account in (GLOBAL_ACCOUNT, *allowed) or not allowed

    def _judge(self, response: Token, nkey: str, arrival: Arrival) -> User:
        """Who the service says. Raises TrustError."""
        claims = user_claims(str(response.body["jwt"]), secrets.check_signature)
        token = claims.token
        if token.subject != nkey:
            raise TrustError(f"expected authorized user of {nkey!r} but got {token.subject!r}")
        if claims.names_account:
            raise TrustError("attempted to use issuer_account, which is for operator mode")
        if token.issuer != self.rules.issuer:
            raise TrustError(f"wrong issuer: expected {self.rules.issuer!r} got {token.issuer!r}")
        if token.audience not in self.accounts:
            raise TrustError(f"no valid account {token.audience!r}: the user's audience must be an account's name")
        token.check_time(time.time())
        return self._shut_off(user_of_callout(token, token.audience, own_rules(claims), arrival))

    def _shut_off(self, user: User) -> User:
        return shut_off(user) if user.account == self.rules.account else user


def user_of_callout(token: Token, account: str, granted: Rules, arrival: Arrival) -> User:
    """Raises TrustError where it may not come in this way or now."""
    from_anywhere = dataclasses.replace(granted, sources=())  # where from is for the service to judge
    ends = [end for end in (token.expires_s, window_end(from_anywhere, arrival, time.time())) if end]
    return User(
        name=token.name,
        nkey=token.subject,
        label=token.name,
        account=account,
        permissions=granted.permissions,
        takes_default=granted.takes_default,
        signer=token.issuer,
        issued_s=token.issued_s,
        ends_s=min(ends, default=0),
    )


def called_out(
    known: Authenticator, config: Config, desk: Desk | None, accounts: Mapping[str, Account]
) -> Authenticator:
    """The same users, with the service before them where one is configured."""
    rules = config.authorization.callout
    if rules is None or desk is None:
        return known
    fields = {field.name: getattr(known, field.name) for field in dataclasses.fields(known)}
    return CalledOut(**fields, desk=desk, rules=rules, accounts=accounts)
