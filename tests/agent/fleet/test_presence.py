"""Inventory and presence make devices: up, stopped or absent, and when they were last there."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.errors import UsageError
from agent.fleet import ages
from agent.fleet.presence import EXPIRY_SECONDS, Device, Presence, devices, parse_tags, select

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_state_comes_from_presence() -> None:
    found = devices(
        {"known-only": {}, "here": {}, "gone": {}, "off": {}},
        {
            "here": Presence(state="up", stored=NOW),
            "off": Presence(state="down", stored=NOW),
            "gone": Presence(state="", stored=NOW, expired=True),
            "new": Presence(state="up", stored=NOW),
        },
    )
    assert {device.id: device.state for device in found} == {
        "gone": "absent",
        "here": "up",
        "known-only": "absent",
        "new": "up",
        "off": "stopped",
    }


def test_an_expired_key_proves_presence_one_lifetime_before() -> None:
    [device] = devices({}, {"pi": Presence(state="", stored=NOW, expired=True)})
    assert device.seen == NOW - timedelta(seconds=EXPIRY_SECONDS)


def test_last_seen_is_the_newest_proof() -> None:
    [device] = devices({"pi": {"seen": "2026-11-20T13:00:00Z"}}, {"pi": Presence(state="up", stored=NOW)})
    assert device.seen == NOW + timedelta(hours=1)


def test_a_strange_inventory_entry_still_makes_a_device() -> None:
    [device] = devices({"pi": {"seen": "yesterday", "tags": ["x"], "facts": 7, "groups": None}}, {})
    assert device == Device(id="pi", state="absent")


def test_os_in_a_few_words() -> None:
    [device] = devices({"pi": {"facts": {"os": {"name": "Debian", "version": "12"}}}}, {})
    assert device.os == "Debian 12"


FLEET = [
    Device(id="a", state="up", groups=("lab",), tags={"site": "roof"}),
    Device(id="b", state="absent", groups=("lab", "x"), tags={"site": "roof", "row": "1"}),
    Device(id="c", state="up"),
]


def test_conditions_narrow_together() -> None:
    assert [each.id for each in select(FLEET, group="lab", tags={"site": "roof"}, state="absent")] == ["b"]
    assert [each.id for each in select(FLEET, tags={"site": "roof", "row": "2"})] == []


def test_ids_that_nobody_knows_are_absent_devices() -> None:
    assert select(FLEET, ids=["c", "zz", "c"]) == [FLEET[2], Device(id="zz", state="absent")]


def test_tags_are_pairs() -> None:
    assert parse_tags(["site=roof", "x=a=b"]) == {"site": "roof", "x": "a=b"}
    with pytest.raises(UsageError, match="site=roof"):
        parse_tags(["site"])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "just now"),
        (-5, "just now"),
        (17, "17 s ago"),
        (119, "119 s ago"),
        (5400, "90 min ago"),
        (3 * 3600, "3 h ago"),
        (26 * 86400, "26 d ago"),
    ],
)
def test_ages_in_words(seconds: float, words: str) -> None:
    assert ages.ago(NOW - timedelta(seconds=seconds), NOW) == words


def test_moments_without_a_zone_are_utc_and_nonsense_is_none() -> None:
    assert ages.parse("2026-11-20T12:00:00") == NOW
    assert ages.parse("soon") is None
    assert ages.parse(17) is None
