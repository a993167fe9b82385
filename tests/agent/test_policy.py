"""What is hidden cannot be seen, nor found out by asking."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.facts.custom import CustomFacts
from agent.facts.history import History, samples
from agent.facts.table import Facts, many, single
from agent.payloads import QueryReply, QueryRequest
from agent.policy import Policy, Roles, unknown
from agent.query import answer
from agent.sandbox import Limits


class Pi:
    """A device with a serial number, a process list, a custom fact and a past."""

    def __init__(self, folder: Path, everyone: Policy, roles: dict[str, Policy]) -> None:
        (folder / "secret.json").write_text('{"word": "x"}')
        self.facts = Facts(
            [
                single("os", lambda: {"name": "Linux"}, ("name",)),
                single("pi", lambda: {"model": "5", "serial": "abc"}, ("model", "serial")),
                single("mem", lambda: {"percent": 40, "total": 1}, ("percent", "total")),
                many("process", lambda: [{"name": "sshd", "command": "sshd -p secret"}], ("name", "command")),
            ],
            CustomFacts(folder, timeout_s=1, age_s=60),
        )
        self.roles = Roles(self.facts, everyone, roles)
        self.history = History(folder / "history.db", 1 << 20)
        self.history.add(list(samples(self.facts, ["mem"], datetime.now(UTC))))

    def ask(self, role: str = "", **fields: object) -> QueryReply:
        sees_all = self.roles.policy(role).sees_all
        return answer(QueryRequest(**fields), self.roles.facts(role), "pi", Limits(), self.history, sees_all)


@pytest.fixture
def pi(tmp_path: Path):
    viewer = Policy.of(["os", "pi", "mem", "process"], ["pi.serial"])
    made = Pi(tmp_path, Policy.of([], ["process.command"]), {"viewer": viewer, "blind": Policy.of(["os"], [])})
    yield made
    made.history.close()


def test_a_hidden_column_is_null_in_answers_and_conditions(pi: Pi) -> None:
    assert pi.ask(sql="SELECT name, command FROM process").rows == (("sshd", None),)
    assert pi.ask("viewer", where="pi.serial = 'abc'").matched is False
    assert pi.ask("viewer", where="pi.serial IS NULL AND pi.model = '5'").matched is True
    assert pi.ask(where="pi.serial = 'abc'").matched is True


def test_what_is_hidden_from_everyone_is_hidden_from_each_role(pi: Pi) -> None:
    assert pi.ask("viewer", sql="SELECT command FROM process").rows == ((None,),)


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM mem", "SELECT * FROM secret", "SELECT * FROM history_mem", "SELECT * FROM PROCESS"]
)
def test_a_hidden_table_does_not_exist(pi: Pi, sql: str) -> None:
    assert pi.ask(sql=sql).error is None
    assert pi.ask("blind", sql=sql).error


def test_the_past_is_for_those_who_see_all_of_the_table(tmp_path: Path) -> None:
    made = Pi(tmp_path, Policy(), {"viewer": Policy.of([], ["mem.total"])})
    assert made.ask("viewer", sql="SELECT percent FROM mem").rows == ((40,),)
    assert made.ask("viewer", sql="SELECT percent FROM history_mem").error
    made.history.close()


def test_the_info_document_follows_the_policy(pi: Pi) -> None:
    assert set(pi.ask("blind").info or {}) == {"os", "tags", "groups"}
    assert (pi.ask("viewer").info or {})["pi"] == {"model": "5", "serial": None}


def test_an_explanation_shows_no_more(pi: Pi) -> None:
    rows = pi.ask("viewer", where="pi.serial > 'a' OR os.name = 'x'", explain=True).rows or ()
    assert "abc" not in str(rows)


def test_names_that_protect_nothing_are_found(pi: Pi) -> None:
    names = ["pi.serial", "PI", "pi.sreial", "secret", "secret.word", "nothing"]
    assert unknown(names, pi.facts) == ["pi.sreial", "nothing"]
