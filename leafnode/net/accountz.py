"""/subsz, /accountz, /accstatz, /leafz, /routez, /gatewayz: subscriptions, accounts and links. Pure.

Sources: spec monitoring-and-ops sections 1, 1.3 and 1.5. Counts of matches are of subjects now remembered, since
counting each match would cost every message.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from leafnode.net.monitor import BadRequest
from leafnode.net.questions import LIMIT, Accstatz, Subsz
from leafnode.net.sockets import Row, go_duration, sub_detail, text
from leafnode.net.varz import rfc3339
from leafnode.route.account import Account
from leafnode.route.message import Subscription
from leafnode.route.subject import is_publishable, matches

SERVER_CID = 0  # of subscriptions that belong to no connection: streams, the JetStream API, ourselves


# subscriptions -------------------------------------------------------------------------------------------------------


def subsz(server_id: str, now_ns: int, asked: Subsz, accounts: Mapping[str, Account]) -> dict[str, Any]:
    """Raises BadRequest for a subject that nobody can publish to."""
    test = asked.test.encode()
    if test and not is_publishable(test):
        raise BadRequest(f"invalid test subject, must be valid publish subject: {asked.test}")
    chosen = [account for name, account in accounts.items() if not asked.acc or name == asked.acc]
    body: dict[str, Any] = {"server_id": server_id, "now": rfc3339(now_ns), **sublist_stats(chosen)}
    offset, limit = max(asked.offset, 0), asked.limit if asked.limit > 0 else LIMIT
    found: list[tuple[Account, Subscription]] = []
    if asked.subs:
        found = [
            (account, sub)
            for account in chosen
            for sub in account.subscriptions.all()
            if not test or matches(sub.subject, test)
        ]
    body |= {"total": len(found), "offset": offset, "limit": limit}
    page = found[offset : offset + limit]
    if page:
        body["subscriptions_list"] = [sub_detail(sub, cid_of(sub), account.name) for account, sub in page]
    return body


def sublist_stats(accounts: Iterable[Account]) -> dict[str, Any]:
    known = list(accounts)
    fanouts = [len(matched.plain) for account in known for matched in account.routes.values()]
    count = sum(account.subscriptions.count for account in known)
    return {
        "num_subscriptions": count,
        "num_cache": len(fanouts),
        "num_inserts": count,
        "num_removes": 0,
        "num_matches": len(fanouts),
        "cache_hit_rate": 0,
        "max_fanout": max(fanouts, default=0),
        "avg_fanout": sum(fanouts) / len(fanouts) if fanouts else 0,
    }


def cid_of(sub: Subscription) -> int:
    return int(getattr(sub.sink, "client_id", SERVER_CID))


# accounts ------------------------------------------------------------------------------------------------------------


def accountz(server_id: str, now_ns: int, system_account: str, accounts: Iterable[str]) -> dict[str, Any]:
    body: dict[str, Any] = {"server_id": server_id, "now": rfc3339(now_ns)}
    if system_account:
        body["system_account"] = system_account
    return body | {"accounts": list(accounts)}


def account_detail(
    account: Account, *, updated_ns: int, clients: int, leafs: int, jetstream: bool, is_system: bool
) -> dict[str, Any]:
    """One account, as in /accountz?acc= and the INFO request."""
    detail: dict[str, Any] = {"account_name": account.name, "update_time": rfc3339(updated_ns)}
    if is_system:
        detail["is_system"] = True
    return detail | {
        "expired": False,
        "complete": True,
        "jetstream_enabled": jetstream,
        "leafnode_connections": leafs,
        "client_connections": clients,
        "subscriptions": account.subscriptions.count,
        "name_tag": account.name,
        "sublist_stats": sublist_stats([account]),
    }


def account_stat(
    account: Account, clients: int, leafs: int, moved: Counter[str], over_leafs: Counter[str]
) -> dict[str, Any]:
    """One entry of /accstatz and of account_connections events. `moved` is by clients."""
    return {
        "acc": account.name,
        "name": account.name,
        "conns": clients,
        "leafnodes": leafs,
        "total_conns": clients + leafs,
        "num_subscriptions": account.subscriptions.count,
        "sent": _moved(moved, over_leafs, "out"),
        "received": _moved(moved, over_leafs, "in"),
        "slow_consumers": moved["slow_consumers"],
    }


def _moved(clients: Counter[str], leafs: Counter[str], way: str) -> dict[str, Any]:
    def amounts(*parts: Counter[str]) -> dict[str, int]:
        return {
            "msgs": sum(part[f"{way}_msgs"] for part in parts),
            "bytes": sum(part[f"{way}_bytes"] for part in parts),
        }

    return {**amounts(clients, leafs), "gateways": amounts(), "routes": amounts(), "leafs": amounts(leafs)}


def accstatz(server_id: str, now_ns: int, asked: Accstatz, stats: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Accounts in use; with `unused` all of them."""
    chosen = [
        stat
        for stat in stats
        if (not asked.accounts or stat["acc"] in asked.accounts) and (asked.unused or stat["total_conns"])
    ]
    return {"server_id": server_id, "now": rfc3339(now_ns), "account_statz": chosen}


# links ---------------------------------------------------------------------------------------------------------------


def leafz(server_id: str, now_ns: int, leafs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"server_id": server_id, "now": rfc3339(now_ns), "leafnodes": len(leafs), "leafs": leafs}


def leaf(row: Row, *, is_spoke: bool, is_isolated: bool, subs: bool) -> dict[str, Any]:
    """One link of /leafz."""
    shown: dict[str, Any] = {"id": row.cid, "name": row.name, "is_spoke": is_spoke}
    if is_isolated:
        shown["is_isolated"] = True
    shown |= {"account": row.account, "ip": row.ip, "port": row.port}
    if row.rtt_ns:
        shown["rtt"] = go_duration(row.rtt_ns)
    shown |= {
        "in_msgs": row.in_msgs,
        "out_msgs": row.out_msgs,
        "in_bytes": row.in_bytes,
        "out_bytes": row.out_bytes,
        "subscriptions": row.subscriptions,
    }
    if subs:
        shown["subscriptions_list"] = [text(sub.subject) for sub in row.subs]
    shown["compression"] = "not supported"
    return shown


def routez(server_id: str, server_name: str, now_ns: int) -> dict[str, Any]:
    """We have no routes, and tools ask."""
    now = rfc3339(now_ns)
    return {"server_id": server_id, "server_name": server_name, "now": now, "num_routes": 0, "routes": []}


def gatewayz(server_id: str, now_ns: int) -> dict[str, Any]:
    """We have no gateways, and tools ask."""
    return {"server_id": server_id, "now": rfc3339(now_ns), "outbound_gateways": {}, "inbound_gateways": {}}
