"""Leaf links into operator mode: the hub asks for a JWT, the site has a credentials file."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nats
import pytest

from tests.conformance.test_jwt import connect
from tests.conformance.test_leaf import MAKER_OF, PAIRS, linked
from tests.support.ports import free_port
from tests.support.servers import Broker
from tests.support.trust import Account, Operator, User


class Trusted(NamedTuple):
    hub: Broker
    operator: Operator
    account: Account
    other: Account
    leaf_port: int
    letter: str  # of the leaf's maker


@pytest.fixture(scope="module", params=list(PAIRS.values()), ids=list(PAIRS))
def trusted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusted]:
    folder, port, operator = tmp_path_factory.mktemp("trusted"), free_port(), Operator()
    account, other = operator.account("site"), operator.account("other")
    config = operator.in_memory((account, account.jwt(limits={"leaf": 1})), (other, other.jwt(limits={"leaf": 0})))
    listen = f'server_name: hub\nleafnodes {{ listen: "127.0.0.1:{port}" }}\n'
    with MAKER_OF[request.param[0]](folder, config=config + listen) as hub:
        yield Trusted(hub, operator, account, other, port, request.param[1])


def leaf(trusted: Trusted, folder: Path, user: User, name: str = "site") -> Broker:
    creds = user.write_creds(folder / f"{name}.creds")
    remote = f'{{ url: "nats-leaf://127.0.0.1:{trusted.leaf_port}", credentials: "{creds}" }}'
    config = f"server_name: {name}\nleafnodes {{ reconnect: 1, remotes: [ {remote} ] }}\n"
    return MAKER_OF[trusted.letter](folder / name, config=config)


async def test_a_site_with_credentials_is_in_its_account(trusted: Trusted, tmp_path: Path) -> None:
    with leaf(trusted, tmp_path, trusted.account.user("roof")) as site:
        at_hub, elsewhere = (
            await connect(trusted.hub, trusted.account.user()),
            await connect(trusted.hub, trusted.other.user()),
        )
        at_site = await nats.connect(site.url, allow_reconnect=False)
        overheard = await elsewhere.subscribe("link.>")
        await elsewhere.flush()
        await linked(at_hub, at_site)
        await elsewhere.flush()
        assert overheard.pending_msgs == 0
        for client in (at_hub, elsewhere, at_site):
            await client.close()


async def test_permissions_of_the_site(trusted: Trusted, tmp_path: Path) -> None:
    user = trusted.account.user(
        "roof", pub={"allow": ["link.>", "up.ok", "_INBOX.>"]}, sub={"allow": ["link.>", "_INBOX.>"]}
    )
    with leaf(trusted, tmp_path, user) as site:
        at_hub = await connect(trusted.hub, trusted.account.user())
        at_site = await nats.connect(site.url, allow_reconnect=False)
        await linked(at_hub, at_site)
        heard = await at_hub.subscribe("up.>")
        await linked(at_hub, at_site)  # and with it, what is wanted of us
        await at_site.publish("up.secret", b"")
        await at_site.publish("up.ok", b"")
        assert (await heard.next_msg(timeout=5)).subject == "up.ok"
        for client in (at_hub, at_site):
            await client.close()


REFUSED = {"a stranger": "stranger", "an account without leaf nodes": "no leaves", "by other ways only": "type"}


@pytest.mark.parametrize("case", list(REFUSED.values()), ids=list(REFUSED))
async def test_sites_that_are_refused(trusted: Trusted, tmp_path: Path, case: str) -> None:
    users = {
        "stranger": Operator().account("site").user(),
        "no leaves": trusted.other.user(),
        "type": trusted.account.user(allowed_connection_types=["STANDARD"]),
    }
    with leaf(trusted, tmp_path, users[case]) as site:
        words = "maximum account active connections exceeded" if case == "no leaves" else "Authorization Violation"
        wait_for(site, words)


def wait_for(site: Broker, words: str) -> None:
    """Until a server's log has these words."""
    deadline = time.monotonic() + 10
    while words.lower() not in site.output().lower():
        assert time.monotonic() < deadline, site.output()
        time.sleep(0.02)
