"""One configuration with all that a site uses: operator, accounts, TLS, websocket, JetStream domain, leaf link.

The same file, line for line, is given to nats-server and to leafnode, and the same people do the same things there.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import nats
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.js.api import StreamSource

from tests.conformance.conftest import MAKERS
from tests.conformance.test_leaf import linked
from tests.conformance.test_websocket import AIOHTTP
from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.support.servers import Broker, stock_hub
from tests.support.trust import Account, Operator, User

SECONDS = 10.0

SITE = """\
CREDS: "{creds}"
include "./identity.conf"
server_name: roof
http: "127.0.0.1:{http}"
max_payload: 512KB
ping_interval: "20s"
jetstream {{ store_dir: "{store}", domain: roof, max_memory_store: 16MB, max_file_store: 256MB }}
tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{ca}", timeout: 5 }}
websocket {{
  listen: "127.0.0.1:{ws}"
  tls {{ cert_file: "{cert}", key_file: "{key}" }}
  compression: true
  handshake_timeout: "5s"
}}
leafnodes {{
  reconnect: 1
  remotes: [
    {{
      url: "tls://127.0.0.1:{hub}"
      account: {account}
      credentials: $CREDS
      deny_exports: ["private.>"]
      tls {{ ca_file: "{ca}" }}
    }}
  ]
}}
"""


class Site(NamedTuple):
    hub: Broker
    roof: Broker
    authority: Authority
    devices: Account
    people: Account
    ws: int
    http: int

    async def at_roof(self, user: User, *, ws: bool = False) -> Client:
        url = f"wss://localhost:{self.ws}" if ws else f"tls://localhost:{self.roof.port}"
        return await nats.connect(url, tls=self.authority.context(), allow_reconnect=False, **user.options())

    async def at_hub(self, user: User) -> Client:
        return await nats.connect(self.hub.url, allow_reconnect=False, **user.options())


@pytest.fixture(scope="module", params=list(MAKERS))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(request.param)
    operator, authority = Operator(), Authority(folder / "ca")
    devices, people = operator.account("devices"), operator.account("people")
    own = authority.server()
    limits = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    exports = [{"name": "status", "subject": "status", "type": "service"}]
    imports = [{"name": "status", "subject": "status", "local_subject": "roof.status", "account": devices.id}]
    imports[0]["type"] = "service"
    trust = operator.in_memory(
        (devices, devices.jwt(limits=limits, exports=exports)), (people, people.jwt(imports=imports))
    )
    port, ws, http = free_port(), free_port(), free_port()
    listen = f'leafnodes {{ listen: "127.0.0.1:{port}", tls {{ cert_file: "{own.cert}", key_file: "{own.key}" }} }}\n'
    js = f'jetstream {{ store_dir: "{folder / "hub-js"}", domain: hub }}\n'
    with stock_hub(folder / "hub", config=trust + f"server_name: hub\n{listen}{js}") as hub:
        place = folder / "roof"
        place.mkdir()
        (place / "identity.conf").write_text(trust)
        creds = devices.user("roof").write_creds(folder / "roof.creds")
        config = SITE.format(
            store=place / "js", cert=own.cert, key=own.key, ca=authority.ca, ws=ws, http=http, hub=port,
            account=devices.id, creds=creds,
        )  # fmt: skip
        with MAKERS[request.param](place, config=config) as roof:
            yield Site(hub, roof, authority, devices, people, ws, http)


@pytest.fixture
async def ends(site: Site) -> AsyncIterator[tuple[Client, Client]]:
    """A device at the site and one at the hub, of the same account, with the link between them."""
    async with _open(site) as pair:
        yield pair


@asynccontextmanager
async def _open(site: Site) -> AsyncIterator[tuple[Client, Client]]:
    here, there = await site.at_roof(site.devices.user()), await site.at_hub(site.devices.user())
    try:
        await linked(there, here)
        yield here, there
    finally:
        await here.close()
        await there.close()


async def test_messages_cross_the_link_but_for_what_is_denied(site: Site, ends: tuple[Client, Client]) -> None:
    here, there = ends
    heard = await there.subscribe("*.>")
    await linked(there, here)
    await here.publish("private.a", b"1")
    await here.publish("open.a", b"2")
    while (message := await heard.next_msg(timeout=SECONDS)).subject != "open.a":
        assert message.subject.startswith("link"), message.subject
    await heard.unsubscribe()


@AIOHTTP
async def test_a_browser_is_in_the_same_account(site: Site, ends: tuple[Client, Client]) -> None:
    here, _ = ends
    browser = await site.at_roof(site.devices.user(), ws=True)
    heard = await browser.subscribe("to.browser")
    await browser.flush()
    await here.publish("to.browser", b"x" * 70_000)
    assert len((await heard.next_msg(timeout=SECONDS)).data) == 70_000
    await browser.close()


async def test_accounts_are_apart_but_for_what_is_exported(site: Site, ends: tuple[Client, Client]) -> None:
    here, _ = ends

    async def answer(message: nats.aio.msg.Msg) -> None:
        await message.respond(b"fine")

    serving = await here.subscribe("status", cb=answer)
    await here.flush()
    person = await site.at_roof(site.people.user())
    assert (await person.request("roof.status", timeout=SECONDS)).data == b"fine"
    with pytest.raises(NoRespondersError):
        await person.request("status", timeout=SECONDS)
    await person.close()
    await serving.unsubscribe()


async def test_the_hub_sources_a_stream_of_the_sites_domain(site: Site, ends: tuple[Client, Client]) -> None:
    here, there = ends
    local, hub = here.jetstream(domain="roof"), there.jetstream(domain="hub")
    await local.add_stream(name="R", subjects=["r.>"])
    source = {"name": "R", "external": {"api": "$JS.roof.API", "deliver": ""}}
    await hub.add_stream(name="ALL", sources=[StreamSource.from_response(source)])
    for number in range(20):
        await here.jetstream(domain="roof").publish("r.a", b"%d" % number)
    sub = await hub.pull_subscribe("", stream="ALL", durable="d")
    got: list[bytes] = []
    while len(got) < 20:
        got += [message.data for message in await sub.fetch(20, timeout=SECONDS)]
    assert got == [b"%d" % number for number in range(20)]


async def test_who_is_not_known_is_refused(site: Site) -> None:
    stranger = Operator().account("x").user()
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
        await site.at_roof(stranger)
    expired = site.devices.user(exp=1_000_000_000)
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation|expired"):
        await site.at_roof(expired)
