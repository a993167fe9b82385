"""What a `forward` block may say, and what it is told when it says something else."""

import pytest

from leafnode.config.load import load_text
from leafnode.errors import ConfigError
from leafnode.forward.plan import SECOND, Forward

AROUND = 'jetstream { domain: site }\nleafnodes { remotes: [ { url: "nats-leaf://hub" } ] }\n'
TO = "to: { stream: COPIES, domain: hub }"


def read(block: str, around: str = AROUND) -> tuple[Forward, ...]:
    return load_text(f"{around}\nforward: {block}").forwards


def test_a_block_and_an_array_of_blocks() -> None:
    (one,) = read(f"{{ name: a, stream: S, {TO} }}")
    assert (one.name, one.stream, one.to.api, one.control) == ("a", "S", "$JS.hub.API", "$FWD.COPIES.a")
    two = read(f"[ {{ name: a, stream: S, {TO} }}, {{ name: b, stream: S, {TO}, receipts: 2s, start: 7 }} ]")
    assert [each.name for each in two] == ["a", "b"]
    assert two[1].receipts_ns == 2 * SECOND
    assert two[1].start.sequence == 7


def test_the_rest_has_a_class_of_its_own() -> None:
    (one,) = read(f'{{ name: a, stream: S, {TO}, classes: [ {{ name: x, subjects: ["x.>"] }} ] }}')
    assert [each.name for each in one.classes] == ["x", "default"]
    assert one.class_of(b"x.y").name == "x"
    assert one.class_of(b"y").name == "default"


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("{ name: a, stream: S }", "needs 'to'"),
        (f"{{ stream: S, {TO} }}", "needs 'name'"),
        ("{ name: a, stream: S, to: { stream: C } }", "the hub's domain"),
        (f'{{ name: "a.b", stream: S, {TO} }}', "token of subjects"),
        (f"[ {{ name: a, stream: S, {TO} }}, {{ name: a, stream: T, {TO} }} ]", "two forwards are called 'a'"),
        (f"{{ name: a, stream: S, {TO}, partitions: 3 }}", "partition_token"),
        (f"{{ name: a, stream: S, {TO}, mode: ordered, partitions: 3 }}", "mode: parallel"),
        (f"{{ name: a, stream: S, {TO}, start: soon }}", "all, new, a sequence"),
        (f"{{ name: a, stream: S, {TO}, account: X }}", "account 'X'"),
        ("{ name: a, stream: S, to: { stream: C, domain: site } }", "is our own"),
        ('{ name: a, stream: S, to: { stream: C, domain: hub, subject: "up.$9" } }', "out of range"),
        (f"{{ name: a, stream: S, {TO}, classes: [ {{ name: x }}, {{ name: y }} ] }}", "put it last"),
        (
            f"{{ name: a, stream: S, {TO}, classes: [ {{ name: x, sample: {{ interval: 1s }} }} ] }}",
            "tells senders apart",
        ),
        (
            f"{{ name: a, stream: S, {TO}, classes: [ {{ name: x, watch: {{ timeout: 1s }} }} ] }}",
            "tells senders apart",
        ),
        (f"{{ name: a, stream: S, {TO}, classes: [ {{ name: x, budget: {{ policy: latest }} }} ] }}", "'bytes' or"),
        (f"{{ name: a, stream: S, {TO}, classes: [ {{ name: x, budget: {{ bytes: 1MB }} }} ] }}", "drops nothing"),
        (f'{{ name: a, stream: S, {TO}, classes: [ {{ name: x, hours: "9-5" }} ] }}', "01:00-05:00"),
        (f"{{ name: a, stream: S, {TO}, classes: [ {{ name: x, priority: 12 }} ] }}", "from 0, which goes first"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(block: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(block)


@pytest.mark.parametrize(
    ("around", "says"),
    [
        ('leafnodes { remotes: [ { url: "nats-leaf://hub" } ] }', "needs jetstream"),
        ("jetstream { domain: site }", "no way to the hub"),
    ],
)
def test_what_it_needs_besides(around: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(f"{{ name: a, stream: S, {TO} }}", around)
