"""What `fleet init` makes, and how sites become sources."""

import pytest

from agent import subjects
from agent.errors import UsageError
from agent.fleet import layout
from agent.fleet.exits import Exit, worst
from agent.fleet.provision import check_domain


def by_name() -> dict[str, layout.Config]:
    return {config["name"]: config for config in layout.streams()}


def test_everything_that_the_protocol_names_is_made() -> None:
    assert set(by_name()) == {
        subjects.STREAM_COMMANDS,
        subjects.STREAM_RESULTS,
        subjects.STREAM_TELEMETRY,
        *(
            f"KV_{bucket}"
            for bucket in ("fleet_config", "fleet_config_status", "fleet_devices", "fleet_presence", "fleet_watches")
        ),
    }


def test_commands_are_a_work_queue_that_refuses_rather_than_drops() -> None:
    commands = by_name()["FLEET_COMMANDS"]
    assert (commands["retention"], commands["discard"], commands["subjects"]) == ("workqueue", "new", ["fleet.cmd.>"])


def test_config_keeps_twenty_revisions_and_presence_expires_with_markers() -> None:
    assert by_name()["KV_fleet_config"]["max_msgs_per_subject"] == 20
    presence = by_name()["KV_fleet_presence"]
    assert presence["allow_msg_ttl"] is True
    assert presence["subject_delete_marker_ttl"] > 0


def test_everything_that_grows_has_a_limit() -> None:
    for name in ("FLEET_COMMANDS", "FLEET_RESULTS", "TELEMETRY"):
        assert by_name()[name]["max_bytes"] > 0


def test_a_stream_in_place_is_judged_by_what_matters() -> None:
    wanted = by_name()["FLEET_COMMANDS"]
    assert layout.conflicts(wanted, {**wanted, "max_bytes": 1, "num_replicas": 3}) == []
    assert layout.conflicts(wanted, {**wanted, "retention": "limits"}) == ["retention is limits, not workqueue"]


def test_sites_are_added_once_and_removed_without_touching_others() -> None:
    config: layout.Config = {"name": "TELEMETRY", "sources": [{"name": "OTHER", "filter_subject": "x"}]}
    one = layout.with_site(config, "site-1")
    assert one["sources"][1] == {"name": "TELEMETRY", "external": {"api": "$JS.site-1.API"}}
    assert layout.with_site(one, "site-1") == one
    two = layout.with_site(one, "site-2")
    assert layout.site_domains(two) == ["site-1", "site-2"]
    assert layout.without_site(layout.without_site(two, "site-1"), "site-2") == config
    assert layout.without_site({"name": "T"}, "site-1") == {"name": "T"}


@pytest.mark.parametrize("domain", ["", "a.b", "a b", "*"])
def test_a_domain_is_one_word(domain: str) -> None:
    with pytest.raises(UsageError, match="JetStream domain"):
        check_domain(domain)


def test_the_worst_exit_code_speaks() -> None:
    assert worst() is Exit.OK
    assert worst(Exit.OK, Exit.INCOMPLETE) is Exit.INCOMPLETE
    assert worst(Exit.INCOMPLETE, Exit.FAILED, Exit.OK) is Exit.FAILED
    assert worst(Exit.FAILED, Exit.INTERRUPTED) is Exit.INTERRUPTED
