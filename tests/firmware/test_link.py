"""Connecting: who we are, which server, what happens when it does not want us; and the program itself."""

import asyncio
import json
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest
from picoleaf import Publisher, Sensor, wifi

from tests.firmware import rig
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Process, jetstream, leafnode, stock_hub

# The least that a device needs; docs/pico.md tells users the same.
MAY = '{publish: ["tele.pico-1.>", "$JS.API.STREAM.MSG.GET.TELEMETRY"], subscribe: ["_INBOX.>"]}'
USERS = f"""authorization {{ users = [
  {{user: pico, password: "s3cret", permissions: {MAY}}}, {{user: admin, password: admin}}
] }}"""
TOKEN = "authorization { token: t0ken }"


@pytest.fixture
def broker(tmp_path):
    """Our own broker; the tests of delivery and of credentials use the stock server as well."""
    folder = tmp_path / "broker"
    with leafnode(folder, config=jetstream(folder)) as running:
        yield running


@pytest.mark.parametrize(
    ("config", "login", "credentials"),
    [
        (USERS, "admin:admin@", {"user": "pico", "password": "s3cret"}),
        (TOKEN, "t0ken@", {"token": "t0ken"}),
    ],
    ids=["password", "token"],
)
async def test_credentials(pico, tmp_path, config, login, credentials):
    with stock_hub(tmp_path / "hub", config=config + "\n" + jetstream(tmp_path / "hub")) as hub:
        await rig.make_stream(f"nats://{login}127.0.0.1:{hub.port}")
        with rig.Device(pico, tmp_path / "good", [hub.url], **credentials).begin(20, 1) as device:
            assert (await device.finish())["acked"] == 20
        with rig.Device(pico, tmp_path / "bad", [hub.url], user="pico", password="wrong").begin(1, 1) as device:
            complaint = (await device.said("picoleaf: down"))[0]
            assert "Authorization Violation" in complaint
            assert "wrong" not in device.output()


async def test_credentials_in_the_address(pico, tmp_path):
    with stock_hub(tmp_path / "hub", config=USERS + "\n" + jetstream(tmp_path / "hub")) as hub:
        await rig.make_stream(f"nats://admin:admin@127.0.0.1:{hub.port}")
        with rig.Device(pico, tmp_path / "pico", [f"nats://pico:s3cret@127.0.0.1:{hub.port}"]).begin(5, 1) as device:
            await device.finish()
            assert "s3cret" not in device.output()


async def test_the_permissions_suffice_after_a_broken_connection_too(pico, tmp_path):
    with stock_hub(tmp_path / "hub", config=USERS + "\n" + jetstream(tmp_path / "hub")) as hub:
        await rig.make_stream(f"nats://admin:admin@127.0.0.1:{hub.port}")
        with Proxy(hub.port) as link:
            device = rig.Device(pico, tmp_path / "pico", [link.url], user="pico", password="s3cret")
            with device.begin(0, 2):
                await device.said("acked")
                link.stall("down")
                await device.said("picoleaf: down")
                link.restore()
                await device.said("picoleaf: up", 2)
                device.enough()
                await device.finish()
                assert device.words("picoleaf: server") == []
                messages = await rig.stored(f"nats://admin:admin@127.0.0.1:{hub.port}")
                rig.check_once_in_order(messages, device.words("pub"))


async def test_the_next_server_is_tried(pico, site, tmp_path):
    dead = f"127.0.0.1:{free_port()}"
    with rig.Device(pico, tmp_path / "pico", [dead, site.url]).begin(20, 1) as device:
        assert (await device.finish())["acked"] == 20
        assert device.words("picoleaf: down")[0].startswith(dead)


async def test_something_else_on_the_port_is_not_believed(pico, site, tmp_path):
    async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n" * 40)
        writer.close()

    server = await asyncio.start_server(chat, "127.0.0.1", 0)
    async with server:
        other = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with rig.Device(pico, tmp_path / "pico", [other, site.url]).begin(5, 1) as device:
            await device.finish()
            assert "not a NATS server" in device.words("picoleaf: down")[0]


async def test_readings_wait_for_a_stream_that_is_made_later(pico, broker, tmp_path):
    with rig.Device(pico, tmp_path / "pico", [broker.url]).begin(60, 2) as device:
        await device.said("picoleaf: refused")
        await rig.make_stream(broker.url)
        await device.finish()
        messages = await rig.stored(broker.url)
        rig.check_once_in_order(messages, device.words("pub"))
        assert len(messages) == 60


async def test_a_slow_link_and_a_long_one_still_work(pico, site, tmp_path):
    with Proxy(site.port) as link:
        link.rate(60_000)
        link.delay(0.02)
        with rig.Device(pico, tmp_path / "pico", [link.url], ping_s=2, pong_s=5, ack_s=5).begin(200, 0) as device:
            stats = await device.finish()
        assert (stats["connects"], stats["acked"]) == (1, 200)


async def test_time_comes_from_the_network(pico, site, tmp_path):
    unix = 1_900_000_000

    def serve(sock: socket.socket) -> None:
        request, address = sock.recvfrom(64)
        assert request[0] & 7 == 3
        sock.sendto(bytes([0x1C, 1]) + 38 * b"\0" + (unix + 2208988800).to_bytes(4, "big") + 4 * b"\0", address)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=serve, args=(sock,))
        thread.start()
        clock = f"127.0.0.1:{sock.getsockname()[1]}"
        with rig.Device(pico, tmp_path / "pico", [site.url], ntp=clock).begin(40, 10) as device:
            await device.finish()
        thread.join()
    last = (await rig.stored(site.url))[-1][2]
    assert last["clock"] is True
    assert 0 <= last["ms"] - unix * 1000 < 60_000


# The program as users start it.


@contextmanager
def program(host, folder, settings):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    file.write_text(json.dumps(settings))
    with Process(host.command(str(rig.FIRMWARE / "main.py"), str(file)), folder / "log") as process:
        yield process


async def test_main_publishes_what_the_settings_list(host, site, tmp_path):
    settings = {
        "device": "pico-7",
        "servers": [site.url],
        "store": str(tmp_path / "queue"),
        "every": 0.02,
        "sensors": [{"kind": "simulated", "name": "temp"}, {"kind": "simulated", "name": "oven", "unit": "K"}],
    }
    with program(host, tmp_path / "run", settings) as process:
        async with rig.client(site.url) as connection:

            async def count() -> int:
                return (await connection.jetstream().stream_info("TELEMETRY")).state.messages

            deadline = asyncio.get_running_loop().time() + rig.SETTLE_SECONDS
            while await count() < 6:
                assert process.alive(), process.output()
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.02)
    found = {(subject, body["unit"]) for subject, _, body in await rig.stored(site.url)}
    assert found == {("tele.pico-7.temp", "C"), ("tele.pico-7.oven", "K")}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"device": "Pico 7", "servers": ["x"]}, "device: 1 to 63 of a-z 0-9 - are needed, found 'Pico 7'"),
        ({"device": "p", "servers": []}, "servers: at least one is needed"),
        (
            {"device": "p", "servers": ["x"], "sensors": [{"kind": "sonar"}]},
            "sensors: kind 'sonar' cannot be used here",
        ),
    ],
)
def test_main_says_what_is_wrong_with_the_settings(host, tmp_path, settings, sentence):
    (tmp_path / "config.json").write_text(json.dumps({"store": "", **settings}))
    argv = host.command(str(rig.FIRMWARE / "main.py"), str(tmp_path / "config.json"))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert sentence in done.stdout


# Sensors, messages to the device and Wi-Fi, in this process.


@contextmanager
def publisher(tmp_path, url, **settings):
    yield Publisher({"device": "pico-1", "servers": [url], "store": str(tmp_path / "q"), **rig.QUICK, **settings})


async def until_cancelled(made, condition, what):
    task = asyncio.create_task(made.main())
    try:
        await rig.until(condition, what)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_sensor_that_fails_is_asked_less_often_and_harms_nobody(tmp_path, site, capsys):
    with publisher(tmp_path, site.url) as made:
        calls = []

        @made.sensor("bad", every=0.01)
        def bad():
            calls.append(1)
            raise RuntimeError("no sensor on the bus")

        @made.sensor("good", every=0.01)
        async def good():
            await asyncio.sleep(0)
            return 1.5

        made.add(Sensor("absent", lambda: None, every=0.01))
        await until_cancelled(made, lambda: made.store.acked >= 40, "forty good readings")
        assert 0 < len(calls) < 20
        assert made.stats()["errors"] == len(calls)
    assert capsys.readouterr().out.count("no sensor on the bus") == 1
    assert {subject for subject, _, _ in await rig.stored(site.url)} == {"tele.pico-1.good"}


async def test_a_device_hears_messages_also_after_a_reconnect(tmp_path, site):
    heard = []
    with Proxy(site.port) as link, publisher(tmp_path, link.url) as made:
        made.subscribe("cmd.pico-1.>", lambda subject, body: heard.append((subject, body)))
        task = asyncio.create_task(made.main())
        try:
            async with rig.client(site.url) as connection:
                for number in range(1, 3):
                    await rig.until(lambda number=number: made.link.connects >= number and made.link.up, "up")
                    while ("cmd.pico-1.led", b"%d" % number) not in heard:  # core NATS: not kept for a late subscriber
                        await connection.publish("cmd.pico-1.led", b"%d" % number)
                        await asyncio.sleep(0.02)
                    link.reset()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert set(heard) == {("cmd.pico-1.led", b"1"), ("cmd.pico-1.led", b"2")}


class Radio:
    """A WLAN as the rp2 port has it, with a script of states: `joins` says how often connect() succeeds."""

    PM_NONE = 0
    STA_IF = 0

    def __init__(self, status_after: int) -> None:
        self.status_after = status_after
        self.log: list[str] = []
        self.state = 0

    def WLAN(self, interface):  # noqa: N802  the name in MicroPython
        self.WLAN.__func__.PM_NONE = 0
        return self

    def country(self, code):
        self.log.append(f"country {code}")

    def active(self, on):
        self.log.append(f"active {on}")

    def config(self, **values):
        self.log.append(f"config {values}")

    def connect(self, name, password):
        self.log.append(f"connect {name}")
        self.state = self.status_after

    def disconnect(self):
        self.log.append("disconnect")
        self.state = 0

    def isconnected(self):
        return self.state == 3

    def status(self):
        return self.state


@pytest.fixture
def radio(monkeypatch):
    def make(status_after: int) -> Radio:
        made = Radio(status_after)
        monkeypatch.setattr(wifi, "network", made)
        monkeypatch.setattr(wifi, "SETTLE_S", 0)
        monkeypatch.setattr(wifi, "_state", {"rejoined": 0})
        return made

    return make


async def test_wifi_is_joined_once_without_power_saving(radio):
    chip = radio(3)
    await wifi.join({"ssid": "home", "password": "x", "country": "DE"}, 1)
    await wifi.join({"ssid": "home", "password": "x", "country": "DE"}, 2000)
    assert chip.log == ["country DE", "active True", "config {'pm': 0}", "connect home"]


async def test_wifi_is_joined_anew_when_nothing_was_heard_for_long(radio):
    """The driver may go on saying "connected" after the access point forgot us."""
    chip = radio(3)
    await wifi.join({"ssid": "home"}, 1)
    chip.log.clear()
    for down_ms in range(0, 70_000, 5_000):
        await wifi.join({"ssid": "home"}, down_ms)
    assert chip.log.count("active False") == 2
    assert chip.log.count("connect home") == 2


async def test_wifi_failure_says_why_and_not_the_password(radio):
    radio(-3)
    with pytest.raises(OSError, match=r"wifi home: wrong password") as caught:
        await wifi.join({"ssid": "home", "password": "s3cret"}, 1)
    assert "s3cret" not in str(caught.value)


def test_every_file_is_installed():
    """package.json and manifest.py list what is there, so that a board gets all of it."""
    package = json.loads((rig.FIRMWARE / "package.json").read_text())
    files = {str(file.relative_to(rig.FIRMWARE)) for file in rig.FIRMWARE.glob("picoleaf/**/*.py")}
    assert {name for name, _ in package["urls"]} == files
    assert all((rig.FIRMWARE / source).is_file() for _, source in package["urls"])
    assert 'package("picoleaf"' in (rig.FIRMWARE / "manifest.py").read_text()
