"""What stands between accounts follows what is written, without sockets."""

import dataclasses

import pytest

from leafnode.config.options import AccountConfig, ExportConfig, ImportConfig
from leafnode.errors import TrustError
from leafnode.imports import Imports
from leafnode.route.account import Account
from leafnode.route.message import Message, Subscription


class Ear:
    """A sink that remembers subjects."""

    is_remote = False

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        self.heard.append(message.subject)
        return True


class World:
    """Accounts by name, and their imports."""

    def __init__(self, *names: str) -> None:
        self.accounts = {name: Account(name, lambda n: n - 1) for name in names}
        self.token_end_s = 0.0
        self.is_token_good = True
        self.imports = Imports(self.accounts, self._check)
        self.wanted = {name: AccountConfig(name=name) for name in names}

    def _check(self, importer: str, one: ImportConfig, export: ExportConfig) -> float:
        if not self.is_token_good:
            raise TrustError("revoked")
        return self.token_end_s

    def write(
        self, name: str, *, exports: tuple[ExportConfig, ...] = (), imports: tuple[ImportConfig, ...] = ()
    ) -> None:
        self.wanted[name] = dataclasses.replace(self.wanted[name], exports=exports, imports=imports)

    def settle(self) -> list[str]:
        return self.imports.settle(self.wanted)

    def hears(self, sender: str, subject: str, receiver: str, local: str) -> bool:
        ear = Ear()
        sub = Subscription(local.encode(), ear)
        self.accounts[receiver].subscribe(sub)
        self.accounts[sender].publish(Message(subject.encode()))
        self.accounts[receiver].unsubscribe(sub)
        return bool(ear.heard)


def stream(subject: str, **rest: object) -> ExportConfig:
    return ExportConfig(kind="stream", subject=subject, **rest)  # type: ignore[arg-type]


def service(subject: str, **rest: object) -> ExportConfig:
    return ExportConfig(kind="service", subject=subject, **rest)  # type: ignore[arg-type]


def wants(export: ExportConfig, account: str, **rest: object) -> ImportConfig:
    fields = {"kind": export.kind, "account": account, "subject": export.subject, **rest}
    return ImportConfig(**fields)  # type: ignore[arg-type]


def test_imports_come_and_go() -> None:
    world = World("a", "b")
    news = stream("news")
    world.write("b", imports=(wants(news, "a", to="n"),))
    assert world.settle() == ["account b does not import stream 'news' from a: stream import not authorized"]
    world.write("a", exports=(news,))
    assert world.settle() == []
    assert world.hears("a", "news", "b", "n")
    world.write("b")
    assert world.settle() == []
    assert not world.hears("a", "news", "b", "n")
    assert world.accounts["a"].subscriptions.count == 0


def test_what_did_not_change_keeps_its_interest() -> None:
    world = World("a", "b")
    news = stream("news")
    world.write("a", exports=(news,))
    world.write("b", imports=(wants(news, "a"),))
    world.settle()
    sub = Subscription(b"news", Ear())
    world.accounts["b"].subscribe(sub)
    seen: list[bool] = []
    world.accounts["a"].interest_listeners.append(lambda _, added: seen.append(added))
    world.write("a", exports=(news, stream("more")))
    world.settle()
    assert seen == []


def test_another_kind_of_answer_makes_the_import_anew() -> None:
    world = World("a", "b")
    world.write("a", exports=(service("q"),))
    world.write("b", imports=(wants(service("q"), "a"),))
    world.settle()
    asker, answers = world.accounts["b"], Ear()
    asker.subscribe(Subscription(b"in", answers))

    def answered(times: int) -> int:
        replies: list[bytes] = []

        class Server(Ear):
            def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
                replies.append(message.reply)
                return True

        sub = Subscription(b"q", Server())
        world.accounts["a"].subscribe(sub)
        asker.publish(Message(b"q", reply=b"in"))
        world.accounts["a"].unsubscribe(sub)
        answers.heard.clear()
        for _ in range(times):
            world.accounts["a"].publish(Message(replies[0], payload=b"x"))
        return len(answers.heard)

    assert answered(2) == 1
    world.write("a", exports=(service("q", response_type="stream"),))
    world.settle()
    assert answered(2) == 2


@pytest.mark.parametrize("kind", [stream, service])
def test_the_import_that_would_close_a_circle_is_left_out(kind: type) -> None:
    world = World("a", "b")
    shared = kind("x")
    world.write("a", exports=(shared,))
    world.write("b", exports=(shared,), imports=(wants(shared, "a"),))
    assert world.settle() == []
    world.write("a", exports=(shared,), imports=(wants(shared, "b"),))
    assert [problem.rpartition(": ")[2] for problem in world.settle()] == ["import forms a cycle"]
    assert kind is not stream or world.hears("a", "x", "b", "x")


def test_two_services_of_an_account_cannot_have_one_name() -> None:
    world = World("a", "b", "c")
    world.write("a", exports=(service("x"), service("y")))
    world.write("c", exports=(service("x"),))
    world.write(
        "b",
        imports=(wants(service("x"), "a", to="q"), wants(service("y"), "a", to="q"), wants(service("x"), "c", to="q")),
    )
    assert world.settle() == [
        "account b does not import service 'y' from a: duplicate of the import of 'x' from 'a'",
    ]


def test_tokens() -> None:
    world = World("a", "b")
    private = stream("news", token_required=True)
    world.write("a", exports=(private,))
    world.write("b", imports=(wants(private, "a", token="t"),))
    world.token_end_s = 5.0
    assert (world.settle(), world.imports.next_end_s()) == ([], 5.0)
    world.token_end_s = 9.0
    assert (world.settle(), world.imports.next_end_s()) == ([], 9.0)
    assert world.hears("a", "news", "b", "news")
    world.is_token_good = False
    assert [problem.rpartition(": ")[2] for problem in world.settle()] == ["revoked"]
    assert not world.hears("a", "news", "b", "news")
    assert world.imports.next_end_s() == 0


def test_accounts_that_went_and_came_again_are_joined_anew() -> None:
    world = World("a", "b")
    news = stream("news")
    world.write("a", exports=(news,))
    world.write("b", imports=(wants(news, "a"),))
    world.settle()
    world.accounts["b"] = Account("b", lambda n: n - 1)
    world.settle()
    assert world.hears("a", "news", "b", "news")


@pytest.mark.parametrize(
    ("export", "subject", "is_allowed"),
    [
        (service("for.*.x", account_token_position=2), "for.b.x", True),
        (service("for.*.x", account_token_position=2), "for.c.x", False),
        (service("for.*.x", account_token_position=2), "for.*.x", False),
        (service("q", accounts=("b",)), "q", True),
        (service("q", accounts=("c",)), "q", False),
        (service("q.>"), "q.a.b", True),
        (service("q.*"), "q.a.b", False),
    ],
)
def test_who_may_import(export: ExportConfig, subject: str, *, is_allowed: bool) -> None:
    world = World("a", "b", "c")
    world.write("a", exports=(export,))
    world.write(
        "b", imports=(ImportConfig(kind="service", account="a", subject=subject, to="q" if "*" not in subject else ""),)
    )
    assert (world.settle() == []) is is_allowed
