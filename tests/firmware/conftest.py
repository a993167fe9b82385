"""Fixtures of the firmware's tests, and the loud line when the real interpreter is missing."""

import pytest

from tests.firmware import rig
from tests.support import micropython
from tests.support.proxy import Proxy
from tests.support.servers import jetstream, leafnode, stock_hub

HOSTS = rig.hosts()
BROKERS = {"nats-server": stock_hub, "leafnode": leafnode}


def pytest_terminal_summary(terminalreporter):
    if micropython.find():
        names = ", ".join(str(one) for one in micropython.find())
        terminalreporter.write_line(f"firmware tests ran under {names}")
    else:
        terminalreporter.write_sep("!", "MicroPython: NOT RUN, the firmware was tested under CPython only", red=True)
        terminalreporter.write_line(f"MicroPython: {micropython.why_not()}")


@pytest.fixture(params=HOSTS, ids=lambda host: host.name)
def host(request):
    """Each interpreter in turn."""
    return request.param


@pytest.fixture
def pico():
    """The interpreter closest to a board."""
    return HOSTS[0]


@pytest.fixture(params=list(BROKERS))
def broker(request, tmp_path):
    """A broker with JetStream, not yet with the stream."""
    folder = tmp_path / "broker"
    with BROKERS[request.param](folder, config=jetstream(folder)) as running:
        yield running


@pytest.fixture
async def site(broker):
    """A broker with the telemetry stream."""
    await rig.make_stream(broker.url)
    return broker


@pytest.fixture
def link(site):
    with Proxy(site.port) as proxy:
        yield proxy


@pytest.fixture
def device(pico, link, tmp_path):
    """A device that reaches the site through `link`."""
    with_link = rig.Device(pico, tmp_path / "pico", [link.url])
    yield with_link
    if with_link.child:
        with_link.kill()
