"""A change that cuts the link undoes itself: nobody can reach the device to do it."""

from pathlib import Path

from tests.agent import fleet_world as world
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import jetstream, stock_hub

OLD = "the link's own\n"
WINDOW_S = 6  # for a good change to be confirmed in on a loaded machine; a bad one is waited for


def item(path: Path) -> str:
    """Its reload ends only when the test has cut the link, as a change of the network would."""
    cut = f"! grep -q cuts {path} || while ! test -e {path.parent}/cut; do sleep 0.02; done"
    return f'path = "{path}"\nconfirm_s = {WINDOW_S}\nreload = ["sh", "-c", "{cut}"]'


def cut(link: Proxy, path: Path) -> None:
    link.refuse()
    link.reset()
    (path.parent / "cut").touch()


async def holds(path: Path, text: str) -> None:
    async def look() -> bool:
        return text in path.read_text()

    await world.eventually(look, f"{path.name} has {text!r}")


async def test_a_sites_link_that_a_change_cut_comes_back(tmp_path: Path) -> None:
    """The local broker is there all the time: only the hub's answer confirms."""
    path, port = tmp_path / "net.json", free_port()
    path.write_text(OLD)
    listen = f'leafnodes {{ listen: "127.0.0.1:{port}", no_advertise: true }}\n'
    async with world.hub(tmp_path / "hub", listen) as (_, bus):
        with Proxy(port) as link:
            remote = f'leafnodes {{ reconnect: 1, remotes: [{{ url: "nats://127.0.0.1:{link.port}" }}] }}\n'
            with stock_hub(tmp_path / "site", config=remote + jetstream(tmp_path / "site", "site")) as leaf:
                nats = 'hub_domain = "hub"'
                with world.agent(tmp_path / "pi-7", leaf.url, config__net=item(path), nats=nats):
                    good = await world.desire(bus, "all.net", {"v": "good"})
                    await world.status(bus, "net", "applied", good)
                    good_file = path.read_text()
                    bad = await world.desire(bus, "all.net", {"v": "cuts the link"})
                    await holds(path, "cuts the link")
                    cut(link, path)
                    await holds(path, "good")
                    assert path.read_text() == good_file
                    link.accept()
                    status = await world.status(bus, "net", "reverted", bad)
                    assert f"the hub was not reached within {WINDOW_S} s" in status.error


async def test_an_agent_that_is_killed_within_the_window_undoes_it_without_a_broker(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text(OLD)
    async with world.hub(tmp_path / "hub") as (broker, bus):
        with Proxy(int(broker.url.rpartition(":")[2])) as link:
            device = world.agent(tmp_path / "pi-7", f"nats://127.0.0.1:{link.port}", config__net=item(path))
            with device:
                bad = await world.desire(bus, "all.net", {"v": "cuts the link"})
                await holds(path, "cuts the link")
                cut(link, path)
                device.kill()
            assert "cuts the link" in path.read_text()
            ready, device.ready = device.ready, "broker not reachable"
            with device.start():
                await holds(path, OLD)
                link.accept()
                status = await world.status(bus, "net", "reverted", bad)
                assert f"the hub was not reached within {WINDOW_S} s" in status.error
            device.ready = ready
