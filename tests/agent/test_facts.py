"""The facts beyond psutil's: from a tree of files as a Pi has them, from folders of one's own, from the past."""

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.errors import QueryError
from agent.facts import hardware, network, packages, services
from agent.facts.custom import CustomFacts
from agent.facts.history import History, HistoryError, samples
from agent.facts.table import Facts, many, single
from agent.payloads import QueryReply, QueryRequest
from agent.query import answer
from agent.sandbox import Limits, ago

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def put(root: Path, path: str, text: str, mode: int = 0o644) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)
    return target


def test_routes(tmp_path: Path) -> None:
    put(
        tmp_path,
        "proc/net/route",
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        "wlan0\t0000A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0\n",
    )
    put(
        tmp_path,
        "proc/net/ipv6_route",
        "fd00000000000000000000000000000000 40 00000000000000000000000000000000 00 "
        "00000000000000000000000000000000 00000100 00000001 00000000 00000001 wlan0\n".replace("fd00", "fd", 1)
        + "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
        "fe800000000000000000000000000001 00000400 00000001 00000000 00000003 wlan0\n"
        "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
        "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n",
    )
    found = [(row["destination"], row["gateway"], row["metric"]) for row in network.routes(tmp_path)]
    assert found == [
        ("0.0.0.0/0", "192.168.0.1", 600),
        ("192.168.0.0/24", None, 600),
        ("fd00::/64", None, 256),
        ("::/0", "fe80::1", 1024),
    ]


def test_wireless(tmp_path: Path) -> None:
    put(
        tmp_path,
        "proc/net/wireless",
        "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n"
        " face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n"
        " wlan0: 0000   58.  -52.  -256        0      0      0      3      0        7\n",
    )
    assert list(network.wireless(tmp_path)) == [
        {"interface": "wlan0", "quality": 58, "signal_dbm": -52, "noise_dbm": None, "missed_beacons": 7}
    ]


def test_ports_are_those_that_wait(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    put(
        tmp_path,
        "proc/net/tcp",
        head + "   0: 0100007F:107E 00000000:0000 0A 00000000:00000000 00:00000000 00000000   991        0 1 1\n"
        "   1: 0100007F:9C40 0100007F:107E 01 00000000:00000000 00:00000000 00000000  1000        0 2 1\n"
        "   2: 010000",  # a long file is cut
    )
    put(
        tmp_path,
        "proc/net/udp6",
        head + " 1: 00000000000000000000000000000000:14E9 00000000000000000000000000000000:0000 07 "
        "00000000:00000000 00:00000000 00000000   109        0 3 2\n",
    )
    assert list(network.ports(tmp_path)) == [
        {"protocol": "tcp", "family": "ipv4", "address": "127.0.0.1", "port": 4222, "uid": 991},
        {"protocol": "udp", "family": "ipv6", "address": "::", "port": 5353, "uid": 109},
    ]


def test_supplies_and_the_pis_alarm(tmp_path: Path) -> None:
    for name, text in {"type": "Battery", "status": "Discharging", "capacity": "87", "voltage_now": "3912000"}.items():
        put(tmp_path, f"sys/class/power_supply/bat/{name}", text + "\n")
    put(tmp_path, "sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    put(tmp_path, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    battery, monitor = hardware.supplies(tmp_path)
    assert (battery["percent"], battery["volts"], battery["status"]) == (87, 3.912, "Discharging")
    assert (monitor["name"], monitor["low"]) == ("rpi_volt", 1)


def test_usb_devices_without_their_interfaces(tmp_path: Path) -> None:
    for name, text in {"idVendor": "2e8a", "idProduct": "0005", "busnum": "1", "devnum": "4", "serial": "E66"}.items():
        put(tmp_path, f"sys/bus/usb/devices/1-1.2/{name}", text + "\n")
    put(tmp_path, "sys/bus/usb/devices/1-1.2:1.0/bInterfaceClass", "02\n")
    [device] = hardware.usb(tmp_path)
    assert (device["vendor"], device["product"], device["bus"], device["serial"]) == ("2e8a", "0005", 1, "E66")


def test_packages_are_those_installed(tmp_path: Path) -> None:
    put(
        tmp_path,
        "var/lib/dpkg/status",
        "Package: ssh\nStatus: install ok installed\nVersion: 1:9.2\nArchitecture: arm64\nInstalled-Size: 10\n"
        "Description: text\n continued: here\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: pinned\nStatus: hold ok installed\nVersion: 2\n",
    )
    found = [(row["name"], row["version"], row["size"], row["held"]) for row in packages.packages(tmp_path)]
    assert found == [("ssh", "1:9.2", 10240, 0), ("pinned", "2", None, 1)]


def test_units_and_timers_are_what_systemctl_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(
        tmp_path,
        "systemctl",
        '#!/bin/sh\ncase $1 in list-units) echo \'[{"unit":"ssh.service","load":"loaded","active":"failed"}]\';;\n'
        'list-timers) echo \'[{"unit":"a.timer","activates":"a.service","next":1763640000000000,"last":0}]\';; esac\n',
        0o755,
    )
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    [unit] = services.units()
    assert (unit["name"], unit["active"]) == ("ssh.service", "failed")
    [timer] = services.timers()
    assert timer == {"name": "a.timer", "unit": "a.service", "next": "2025-11-20T12:00:00Z", "last": None}


def test_no_container_engine_is_no_container(tmp_path: Path) -> None:
    assert list(services.containers({"docker": tmp_path / "docker.sock"})) == []


# Custom facts


def device(folder: Path, clock: list[float] | None = None, history: History | None = None) -> "Device":
    return Device(folder, clock or [0.0], history)


class Device:
    """Facts with a folder of custom ones, asked as over the wire."""

    def __init__(self, folder: Path, clock: list[float], history: History | None) -> None:
        custom = CustomFacts(folder, timeout_s=5, age_s=60, clock=lambda: clock[0])
        self.facts = Facts(
            [
                single("os", lambda: {"name": "Linux"}, ("name",)),
                single("mem", lambda: {"percent": 40.0, "unit": "x"}, ("percent", "unit")),
                many("temperature", lambda: [{"sensor": "cpu", "celsius": 48.5}], ("sensor", "celsius")),
            ],
            custom,
        )
        self.history = history

    def ask(self, where: str | None = None, **fields: object) -> QueryReply:
        return answer(QueryRequest(where=where, **fields), self.facts, "pi-7", Limits(time_ms=5000), self.history)


def test_files_and_executables_are_tables(tmp_path: Path) -> None:
    put(tmp_path, "place.json", '{"room": "attic", "tags": ["a", "b"]}')
    put(tmp_path, "pump.toml", 'state = "on"\nhours = 12.5\n')
    put(tmp_path, "valve", '#!/bin/sh\necho \'[{"id": 1, "open": true}, {"id": 2}]\'\n', 0o755)
    put(tmp_path, "README", "not executable, not a table")
    pi = device(tmp_path)
    assert pi.ask("place.room = 'attic' AND pump.hours > 12").matched
    assert pi.ask(sql="SELECT tags FROM place").rows == (('["a", "b"]',),)
    assert pi.ask("os.name = 'Linux'", select="(SELECT count(*) FROM valve) AS n, place.room").rows == ((2, "attic"),)
    assert pi.ask(sql="SELECT id, open FROM valve ORDER BY id").rows == ((1, 1), (2, None))
    assert "no such table: readme" in str(pi.ask(sql="SELECT * FROM readme").error)
    assert "place.room" not in str(pi.ask("os.nam = 'x'").error)


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    put(tmp_path, "alarm.json", '{"columns": ["name"], "rows": []}')
    put(tmp_path, "valve.json", '{"columns": ["id", "open"], "rows": [[1, true], [2, null]]}')
    pi = device(tmp_path)
    assert pi.ask("NOT EXISTS (SELECT 1 FROM alarm WHERE name = 'x')").matched
    assert pi.ask(sql="SELECT id, open FROM valve ORDER BY id").rows == ((1, 1), (2, None))


def test_nothing_is_run_unless_asked_for_nor_again_while_it_is_fresh(tmp_path: Path) -> None:
    count = tmp_path / "count"
    put(tmp_path, "probe", f"#!/bin/sh\necho x >> {count}\necho '{{\"ok\": 1}}'\n", 0o755)
    clock = [0.0]
    pi = device(tmp_path, clock)
    assert pi.ask("os.name = 'Linux'").matched
    assert not count.exists()
    assert pi.ask("probe.ok = 1").matched
    assert pi.ask("probe.ok = 1").matched
    assert count.read_text().count("x") == 1
    clock[0] = 61
    assert pi.ask("probe.ok = 1").matched
    assert count.read_text().count("x") == 2


@pytest.mark.parametrize(
    ("name", "text", "mode", "words"),
    [
        ("x.json", "{", 0o644, "custom fact x.json: not JSON"),
        ("x.toml", "=", 0o644, "custom fact x.toml: not TOML"),
        ("x.json", "3", 0o644, "must be an object or a list of objects"),
        ("x.json", '{"columns": [], "rows": []}', 0o644, "columns must be a list of names"),
        ("x.json", '{"columns": ["a"], "rows": [[1, 2]]}', 0o644, "rows must be lists of 1 values"),
        ("x.json", " " * 300_000, 0o644, "more than 262144 bytes"),
        ("x", "#!/bin/sh\necho broken >&2; exit 3\n", 0o755, "exit code 3: broken"),
        ("x", "#!/bin/sh\necho '{}'\n", 0o777, "others can change it"),
        ("x", "#!/nowhere\n", 0o755, "custom fact x: No such file"),
    ],
)
def test_a_fact_that_cannot_be_had_is_the_answer(tmp_path: Path, name: str, text: str, mode: int, words: str) -> None:
    put(tmp_path, name, text, mode)
    reply = device(tmp_path).ask("x.ok = 1")
    assert reply.matched is None
    assert words in str(reply.error)


def test_an_executable_that_hangs_ends_with_all_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    put(tmp_path, "slow", f"#!/bin/sh\nsleep 60 & echo $! > {pid}\nwait\n", 0o755)
    custom = CustomFacts(tmp_path, timeout_s=0.3, age_s=60)
    with pytest.raises(QueryError, match=r"slow: took longer than 0\.3 s"):
        custom.table("slow")
    status = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not status.exists() or status.read_text().split()[2] in "ZX"


def test_a_folder_that_is_not_there_has_no_tables(tmp_path: Path) -> None:
    assert CustomFacts(tmp_path / "none", timeout_s=1, age_s=1).names() == []


# The past


def remembered(pi: Device, history: History, at: datetime) -> None:
    history.add(list(samples(pi.facts, ["mem", "temperature"], at)))


def test_the_past_is_a_table(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", 1 << 20)
    pi = device(tmp_path, history=history)
    now = datetime.now(UTC)
    for minutes in (90, 30, 1):
        remembered(pi, history, now - timedelta(minutes=minutes))
    reply = pi.ask(sql="SELECT count(*), max(celsius), min(sensor) FROM history_temperature WHERE at > ago('1h')")
    assert reply.rows == ((2, 48.5, "cpu"),)
    assert pi.ask(sql="SELECT * FROM history_mem LIMIT 1").columns == ("at", "percent")
    assert pi.ask("os.name = 'Linux' AND (SELECT max(percent) FROM history_mem) > 39").matched
    history.close()
    again = History(tmp_path / "history.db", 1 << 20)
    assert device(tmp_path, history=again).ask(sql="SELECT count(*) FROM history_mem").rows == ((3,),)
    again.close()


@pytest.mark.parametrize("words", ["DELETE FROM history_mem", "SELECT * FROM past.sqlite_master", "DETACH past"])
def test_the_past_can_only_be_read(tmp_path: Path, words: str) -> None:
    history = History(tmp_path / "history.db", 1 << 20)
    pi = device(tmp_path, history=history)
    remembered(pi, history, NOON)
    assert pi.ask(sql=f"{words} -- history_mem").error
    assert pi.ask(sql="SELECT count(*) FROM history_mem").rows == ((1,),)
    history.close()


def test_the_budget_is_kept_and_the_oldest_go_first(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", 1 << 20)
    pi = device(tmp_path, history=history)
    for hour in range(60):
        for second in range(0, 3600, 10):
            remembered(pi, history, NOON + timedelta(hours=hour, seconds=second))
        history.flush()
    [[count, first, last]] = pi.ask(sql="SELECT count(*), min(at), max(at) FROM history_mem").rows or ()
    assert 1000 < count < 60 * 360
    assert first > "2026-11-20T12:00:00Z"
    assert last == "2026-11-22T23:59:50Z"
    history.close()
    assert (tmp_path / "history.db").stat().st_size < 1.3 * (1 << 20)


def test_a_newer_agent_adds_a_column(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", 1 << 20)
    for columns in (("percent",), ("percent", "free")):
        facts = Facts([single("mem", lambda: {"percent": 1, "free": 2}, columns)])
        history.add(list(samples(facts, ["mem"], NOON)))
        history.flush()
    assert set(history.columns()["history_mem"]) == {"at", "percent", "free"}
    history.close()


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    put(tmp_path, "history.db", "this is no database " * 500)
    history = History(tmp_path / "history.db", 1 << 20)
    pi = device(tmp_path, history=history)
    remembered(pi, history, NOON)
    history.flush()
    history.close()
    assert (tmp_path / "history.damaged").read_text().startswith("this is no database")


def test_a_file_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="unable to open"):
        History(tmp_path / "none" / "history.db", 1 << 20)


@pytest.mark.parametrize(
    ("text", "moment"), [("90s", "11:58:30"), ("5m", "11:55:00"), ("1h", "11:00:00"), (" 12 h", "00:00:00")]
)
def test_ago(text: str, moment: str) -> None:
    assert ago(text, NOON) == f"2026-11-20T{moment}Z"


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1 year", "999999999w"])
def test_ago_says_what_it_takes(tmp_path: Path, text: str) -> None:
    reply = device(tmp_path).ask(f"'2020' > ago('{text}') OR os.name = 'x'")
    assert "ago(" in str(reply.error)


def test_a_custom_file_is_private_to_its_owner_only_if_it_is_run(tmp_path: Path) -> None:
    path = put(tmp_path, "notes.json", json.dumps({"a": 1}), 0o666)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert device(tmp_path).ask("notes.a = 1").matched
