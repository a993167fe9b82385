"""When what gathered for a connection is written."""

import asyncio
from collections.abc import Callable

from leafnode.net.endpoint import Endpoint, Turn, turn_of


class Written:
    """Stands for an endpoint; notes when it is flushed."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def flush(self) -> None:
        self.log.append(self.name)


class HeldLoop:
    """Keeps what is to be called until the turn is over."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self.due.append(call)

    def next_turn(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()


def test_the_first_input_of_a_turn_is_answered_at_once_and_the_others_at_its_end() -> None:
    loop, log = HeldLoop(), list[str]()
    turn = Turn(loop)  # type: ignore[arg-type]
    one, two, three = (Written(name, log) for name in "abc")

    def hear(*woken: Written) -> None:
        turn.begin_input()
        for each in woken:
            turn.wake(each)  # type: ignore[arg-type]
        turn.end_input()

    hear()
    hear(one, two)
    assert log == ["a", "b"]
    hear(three)
    hear(one)
    assert log == ["a", "b"]
    loop.next_turn()
    assert log == ["a", "b", "c", "a"]
    hear(two)
    assert log[-1] == "b"
    loop.next_turn()
    assert not loop.due


def test_what_no_input_caused_is_written_at_the_end_of_the_turn() -> None:
    loop, log = HeldLoop(), list[str]()
    turn = Turn(loop)  # type: ignore[arg-type]
    turn.wake(Written("timer", log))  # type: ignore[arg-type]
    assert not log
    loop.next_turn()
    assert log == ["timer"]


async def test_endpoints_of_a_loop_share_its_turn() -> None:
    one, two = (Endpoint(max_pending=1, write_deadline_s=1, ping_interval_s=1, ping_max=1) for _ in range(2))
    assert one._turn is two._turn is turn_of(asyncio.get_running_loop())
