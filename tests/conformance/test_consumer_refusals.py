"""Bad and odd consumer configurations, requests, updates and pulls: code, err_code and text are nats-server's."""

import json
from collections.abc import Iterator

import pytest

from tests.conformance import odd_consumers as odd
from tests.conformance.pair import Differ, Pair, pair_of


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair_of(tmp_path_factory.mktemp("pair")) as both:
        for config in odd.STREAMS:
            both.api(f"STREAM.CREATE.{config['name']}", config)
        for number in range(10):
            both.ask(f"s.{number % 3}", b"x")
        yield both


class Differences:
    """Collects all of them: one run shows everything that is to be mended."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, Differ):
            self.found.append(str(error))
            return True
        return False

    def there_are_none(self) -> None:
        assert not self.found, "\n\n".join(self.found)


def forget_consumers(pair: Pair) -> None:
    """Leave none, whatever each of them has."""
    for side in pair.sides:
        for config in odd.STREAMS:
            for name in pair.consumers_of(side, config["name"]):
                pair.api_of(side, f"CONSUMER.DELETE.{config['name']}.{name}")


def test_configurations(pair: Pair) -> None:
    differences = Differences()
    for config in odd.CONFIGS:
        with differences:
            pair.api("CONSUMER.CREATE.S.c", {"stream_name": "S", "config": config})
        forget_consumers(pair)
    differences.there_are_none()


def test_requests(pair: Pair) -> None:
    differences = Differences()
    for subject, body in odd.REQUESTS:
        with differences:
            pair.api(f"CONSUMER.{subject}", body)
        forget_consumers(pair)
    differences.there_are_none()


def test_updates(pair: Pair) -> None:
    differences = Differences()
    for before, after in odd.UPDATES:
        with differences:
            pair.api("CONSUMER.CREATE.S.u", {"stream_name": "S", "config": {"durable_name": "u", **before}})
        for action in ("create", "update", ""):
            wanted = {"stream_name": "S", "action": action, "config": {"durable_name": "u", **after}}
            with differences:
                pair.api("CONSUMER.CREATE.S.u", wanted)
            with differences:
                pair.api("CONSUMER.INFO.S.u")
        forget_consumers(pair)
    differences.there_are_none()


@pytest.mark.parametrize("place", range(len(odd.PULLS)))
def test_pull_requests(pair: Pair, place: int) -> None:
    config, bodies = odd.PULLS[place]
    differences = Differences()
    pair.api("CONSUMER.CREATE.S.p", {"stream_name": "S", "config": {"durable_name": "p", **config}})
    for body in bodies:
        with differences:
            pair.ask("$JS.API.CONSUMER.MSG.NEXT.S.p", body, least=0)
    with differences:
        pair.settles("CONSUMER.INFO.S.p")
    forget_consumers(pair)
    differences.there_are_none()


def test_there_are_enough_of_them() -> None:
    """The lists are data: a slip of an editor must not empty them."""
    unlike = {json.dumps(config, sort_keys=True) for config in odd.CONFIGS} | {str(item) for item in odd.REQUESTS}
    assert len(unlike) > 200
