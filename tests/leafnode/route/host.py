"""A server without sockets, for tests of sessions: bytes in, bytes out, by hand."""

import json

from leafnode.route.account import Account
from leafnode.route.auth import Authenticator, User
from leafnode.route.known import FastSink
from leafnode.route.permissions import Permissions
from leafnode.route.session import Session

CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}\r\n'


class FakeHost:
    """Implements `Host`; every session joins the one account."""

    def __init__(self, *users: User, permissions: Permissions | None = None) -> None:
        self.max_payload = 1024
        self.max_control_line = 4096
        self.max_subscriptions = 0
        self.max_sub_tokens = 0
        self.slow: set[FastSink] = set()
        self.has_headers = True
        self.account = Account("$G", lambda n: n - 1)
        self.user = User(permissions=permissions)
        self.authenticator = Authenticator(
            users=users, check_hash=lambda given, kept: False, check_signature=lambda key, nonce, sig: sig == "good"
        )
        self.clock_ns = 0
        self.count = 0

    def authenticate(self, session: Session, options: dict[str, object]) -> User | None:
        return self.authenticator.authenticate(options, session.nonce) if self.authenticator.users else self.user

    def account_of(self, user: User) -> Account:
        return self.account

    def info(self, session: Session, *, connected: bool) -> bytes:
        return b"INFO " + json.dumps({"connect_info": connected}).encode() + b" \r\n"

    def request_info(self, session: Session, *, share: bool) -> dict[str, object]:
        return {"acc": session.account.name if session.account else "", **({"id": session.client_id} if share else {})}

    def now_ns(self) -> int:
        return self.clock_ns

    def on_connect(self, session: Session) -> None:
        pass

    def client(self, connect: bytes = CONNECT, *, fast: bool = True) -> Session:
        self.count += 1
        session = Session(self, self.count, auth_required=bool(self.authenticator.users))
        session.fast = fast
        session.receive(connect)
        session.out.clear()
        return session


def said(session: Session) -> bytes:
    """Everything the session wrote since the last look."""
    text = b"".join(session.out)
    session.out.clear()
    return text
