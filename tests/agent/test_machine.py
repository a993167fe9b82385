"""Facts of the machine from files, programs run with limits, identity, readings: each against what is known."""

import base64
import binascii
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent import identity, processes
from agent.errors import ConfigError
from agent.facts import linux, system
from agent.facts.table import Facts, Table, many, single
from agent.payloads import Reading
from agent.telemetry import Outbox, Outgoing, readings

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def file(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_os_release_is_read_with_its_quotes(tmp_path: Path) -> None:
    file(
        tmp_path,
        "etc/os-release",
        'NAME="Debian GNU/Linux"\n# no\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n',
    )
    facts = linux.os_facts(tmp_path, {})
    assert (facts["name"], facts["version"], facts["codename"], facts["id"]) == (
        "Debian GNU/Linux",
        "12",
        "bookworm",
        "debian",
    )
    assert linux.os_facts(tmp_path, {"ANDROID_ROOT": "/system"})["name"] == "Android"


def test_a_raspberry_pi_tells_model_serial_and_throttling(tmp_path: Path) -> None:
    assert linux.pi_facts(tmp_path) == {}
    file(tmp_path, "proc/device-tree/model", "Raspberry Pi Zero 2 W Rev 1.0\0")
    file(tmp_path, "proc/device-tree/serial-number", "00000000abcdef01\0")
    assert linux.pi_facts(tmp_path) == {"model": "Raspberry Pi Zero 2 W Rev 1.0", "serial": "00000000abcdef01"}
    file(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    facts = linux.pi_facts(tmp_path)
    assert facts["throttled"] == 0x50005
    assert [name for name in list(linux.PI)[3:] if facts[name]] == [
        "under_voltage",
        "throttling",
        "under_voltage_seen",
        "throttling_seen",
    ]


def test_thermal_zones_that_can_be_read_are_read(tmp_path: Path) -> None:
    file(tmp_path, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    file(tmp_path, "sys/class/thermal/thermal_zone0/temp", "48312\n")
    file(tmp_path, "sys/class/thermal/thermal_zone1/temp", "\n")
    assert list(linux.temperatures(tmp_path)) == [{"sensor": "cpu-thermal", "celsius": 48.312}]


def test_every_table_of_this_machine_can_be_collected() -> None:
    for table in system.tables(system.CpuMeter()):
        for row in table.rows():
            assert len(row) == len(table.columns), table.name
        assert not table.single or len(table.rows()) == 1
    facts = Facts(system.tables(system.CpuMeter()))
    assert facts["host"].records()[0]["name"]
    assert any(row["pid"] == os.getpid() for row in facts["process"].records())


async def run(script: str, timeout_s: float = 30.0, output_bytes: int = 1000) -> processes.Ended:
    return await processes.run(["sh", "-c", script], timeout_s=timeout_s, output_bytes=output_bytes)


async def test_a_program_that_leaves_its_pipe_to_a_grandchild_has_ended() -> None:
    ended = await run("sleep 30 & echo $!")
    os.kill(int(ended.stdout), 9)
    assert (ended.exit_code, ended.timed_out) == (0, False)


async def test_a_time_out_ends_the_whole_group_also_one_that_ignores_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    ended = await run(f"trap '' TERM; sleep 30 & echo $! > {tmp_path / 'pid'}; while :; do wait; done", timeout_s=0.3)
    assert ended.timed_out
    assert not ended.succeeded
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().split()[2] in "ZX"


async def test_both_pipes_are_bounded_and_drained() -> None:
    ended = await run("yes | head -c 300000; yes e | head -c 300000 >&2; exit 4")
    assert (len(ended.stdout), len(ended.stderr), ended.truncated, ended.exit_code) == (1000, 1000, True, 4)
    assert ended.summary() == "ended with 4: e"


@pytest.mark.parametrize(("host", "expected"), [("pi-7.local", "pi-7"), ("My_Box", "my-box"), ("x" * 80, "x" * 63)])
def test_a_device_is_named_after_its_host(host: str, expected: str) -> None:
    assert identity.device_id(host) == expected


def test_a_host_name_that_images_come_with_is_made_distinct() -> None:
    one, two = (identity.device_id("raspberrypi", machine) for machine in ("a", "b"))
    assert one != two
    assert one.startswith("raspberrypi-")


def seed(raw: bytes) -> str:
    body = bytes([0x90 | 0xA0 >> 5, (0xA0 & 31) << 3]) + raw  # a seed (0x90) of a user (0xA0), as nkeys packs them
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode().rstrip("=")


def test_a_credentials_file_signs_as_its_user(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    raw = bytes(range(32))
    text = seed(raw)
    assert text.startswith("SU")
    path = tmp_path / "x.creds"
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\nabc.def\n------END NATS USER JWT------\n\nKeep it.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{text}\n------END USER NKEY SEED------\n"
    )
    credentials = identity.read_credentials(path)
    assert credentials.jwt == "abc.def"
    Ed25519PrivateKey.from_private_bytes(raw).public_key().verify(credentials.sign(b"nonce"), b"nonce")
    assert text not in repr(credentials)
    wrong = text[:20] + ("A" if text[20] != "A" else "B") + text[21:]
    for body in (wrong, "nonsense!", "SUAB"):
        with pytest.raises(ConfigError) as caught:
            identity.seed_bytes(body, "x.creds")
        assert body not in str(caught.value)
    path.write_text("hello")
    with pytest.raises(ConfigError, match="is no credentials file"):
        identity.read_credentials(path)


def test_readings_are_numbers_and_only_of_what_there_is() -> None:
    facts = Facts(
        [
            single("cpu", lambda: {"percent": 12.5, "model": "x"}, ("percent", "model", "mhz")),
            many("temperature", list, ("sensor", "celsius")),
        ]
    )
    assert list(readings("pi-7", ["cpu", "temperature"], facts, AT)) == [
        Reading(device="pi-7", metric="cpu", at=AT, values={"percent": 12.5})
    ]


def test_the_outbox_keeps_the_newest_and_counts_what_it_drops() -> None:
    outbox = Outbox(3)
    for number in range(5):
        outbox.add(Outgoing(str(number), "tele.d.cpu", b""))
    assert (len(outbox), outbox.dropped) == (3, 2)
    outbox.sent("0")  # dropped meanwhile: nothing else goes with it
    first = outbox.first()
    assert first
    assert first.id == "2"
    outbox.sent("2")
    assert len(outbox) == 2


def test_a_table_that_fails_is_a_row_of_null() -> None:
    def fails() -> dict[str, object]:
        raise OSError

    assert single("x", fails, ("a", "b")).rows() == [(None, None)]
    assert Table("y", ("a",), False, lambda: [fails()]).rows() == []  # type: ignore[list-item]  # never returns
