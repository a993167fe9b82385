"""Who may stay when the users of the configuration change, and under which rules."""

import dataclasses

import pytest

from leafnode.route.auth import Authenticator, User
from leafnode.route.permissions import Permissions
from leafnode.route.renewal import renewed
from tests.leafnode.route.host import FakeHost, said

ALICE = User(name="alice", password="a", account="A")
KEY = User(nkey="UKEY", account="A")
GUEST = User(name="guest")
RULES = Permissions(subscribe_deny=(b"secret.>",))


def known(*users: User, **more: str) -> Authenticator:
    return Authenticator(users=users, check_hash=lambda a, b: a == b, check_signature=lambda *_: True, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("user", [ALICE, KEY])
def test_the_same_user_stays_with_the_rules_of_now(user: User) -> None:
    stricter = dataclasses.replace(user, permissions=RULES)
    assert renewed(user, known(user), known(GUEST, stricter)) == stricter


@pytest.mark.parametrize(
    "after",
    [
        known(GUEST),
        known(dataclasses.replace(ALICE, password="b")),
        known(dataclasses.replace(ALICE, account="B")),
        known(),
    ],
)
def test_another_password_or_account_is_another_user(after: Authenticator) -> None:
    assert renewed(ALICE, known(ALICE), after) is None


def test_who_came_without_credentials_stays_while_that_is_enough() -> None:
    assert renewed(User(), known(), known()) == User()
    assert renewed(User(), known(), known(ALICE)) is None
    assert renewed(User(), known(), known(GUEST, no_auth_user="guest")) == GUEST
    before = known(GUEST, no_auth_user="guest")
    assert renewed(GUEST, before, before) == GUEST
    assert renewed(GUEST, before, known(GUEST)) is None
    other = dataclasses.replace(GUEST, name="visitor")
    assert renewed(GUEST, before, known(other, no_auth_user="visitor")) == other


def test_a_token_is_a_password_too() -> None:
    assert renewed(User(), known(token="t"), known(token="t")) == User()
    assert renewed(User(), known(token="t"), known(token="other")) is None
    assert renewed(User(), known(), known(token="t")) is None


def test_a_user_of_another_making_is_left_alone() -> None:
    assert renewed(User(name="by JWT"), known(ALICE), known()) == User(name="by JWT")


def test_subscriptions_that_are_not_allowed_any_more_are_dropped_and_said() -> None:
    host = FakeHost()
    session = host.client()
    session.receive(b"SUB secret.1 1\r\nSUB open 2\r\nSUB > 3\r\n")
    said(session)
    assert session.user is not None
    assert session.account is not None
    session.renew(dataclasses.replace(session.user, permissions=RULES))
    session.account.forget_all_routes()
    assert said(session) == b'-ERR \'Permissions Violation for Subscription to "secret.1" (sid "1")\'\r\n'
    session.receive(b"PUB secret.1 0\r\n\r\nPUB open 0\r\n\r\n")
    assert said(session) == b"MSG open 2 0\r\n\r\nMSG open 3 0\r\n\r\n"


def test_what_was_prepared_is_forgotten() -> None:
    """A line that went the fast way is checked again under new rules."""
    host = FakeHost()
    session = host.client()
    session.receive(b"SUB a 1\r\n" + 5 * b"PUB a 0\r\n\r\n")
    said(session)
    assert session.user is not None
    session.renew(dataclasses.replace(session.user, permissions=Permissions(publish_deny=(b"a",))))
    session.receive(b"PUB a 0\r\n\r\n")
    assert said(session) == b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n"
