"""Accounts as the configuration describes them: subject mappings, limits, and what one imports from another."""

import random
import time
from collections.abc import Mapping as Named

from leafnode.base import nuid
from leafnode.config.options import GLOBAL_ACCOUNT, AccountConfig, AccountLimits, Config, ExportConfig, MappingConfig
from leafnode.config.sharing import export_for, passage_of
from leafnode.route.account import Account
from leafnode.route.bridge import Replies, ServiceImport, StreamImport
from leafnode.route.limits import Limits
from leafnode.route.mapping import WHOLE_PERCENT, Mapping

REPLY_ID_LENGTH = 6  # characters, of which there are 62: as in nats-server; 65,536 at a time hardly meet

NOT_STATED = ExportConfig(kind="service", subject="")


def furnish(config: Config, accounts: Named[str, Account]) -> None:
    """Give new accounts what the configuration says."""
    cluster = config.cluster.name
    accounts[GLOBAL_ACCOUNT].map(mapping_of(mapping, cluster) for mapping in config.mappings)
    for name, settings in config.accounts.items():
        accounts[name].map(mapping_of(mapping, cluster) for mapping in settings.mappings)
        accounts[name].limits = limits_of(settings.limits)
    for name, account in accounts.items():
        account.map(default_domain_mappings(config, name))
    connect(config.accounts, accounts)


def mapping_of(settings: MappingConfig, cluster: str) -> Mapping:
    """One mapping, for a server in `cluster` (empty: in none): destinations for it replace those for all."""
    ours = [entry for entry in settings.destinations if entry.cluster and entry.cluster == cluster]
    chosen = ours or [entry for entry in settings.destinations if not entry.cluster]
    return Mapping(settings.source, [(entry.subject, entry.weight_percent) for entry in chosen], random.randrange)


def limits_of(settings: AccountLimits) -> Limits:
    return Limits(
        max_connections=settings.max_connections,
        max_leafnodes=settings.max_leafnodes,
        max_subscriptions=settings.max_subscriptions,
        max_payload=settings.max_payload,
    )


def default_domain_mappings(config: Config, account: str) -> list[Mapping]:
    """An account that has a default domain finds that JetStream, over a leaf link, under the names of its own."""
    domain = config.default_js_domain.get(account, "")
    if not domain:
        return []
    theirs = f"$JS.{domain}.API"
    pairs = [("$JS.API.>", f"{theirs}.>"), ("$KV.>", f"{theirs}.$KV.>"), ("$OBJ.>", f"{theirs}.$OBJ.>")]
    return [Mapping(source, [(target, WHOLE_PERCENT)]) for source, target in pairs]


def domain_mappings(domain: str) -> list[Mapping]:
    """Requests to `$JS.<domain>.API.…` are requests to us (spec leafnode-protocol section 8)."""
    if not domain:
        return []
    ours = f"$JS.{domain}.API."
    verbs = ("INFO", "STREAM.>", "CONSUMER.>", "DIRECT.>", "META.>", "SERVER.>", "ACCOUNT.>")
    pairs = [(ours + verb, f"$JS.API.{verb}") for verb in verbs]
    pairs += [(f"{ours}{space}.>", f"{space}.>") for space in ("$KV", "$OBJ")]
    return [Mapping(source, [(target, WHOLE_PERCENT)]) for source, target in pairs]


def connect(settings: Named[str, AccountConfig], accounts: Named[str, Account]) -> list[StreamImport | ServiceImport]:
    """Make the imports of the accounts in `settings`, which were checked; `close` undoes one."""
    bridges: list[StreamImport | ServiceImport] = []
    replies: dict[str, Replies] = {}
    for name, importer in settings.items():
        for wanted in importer.imports:
            exporter, passage = accounts[wanted.account], passage_of(wanted)
            if wanted.kind == "stream":
                bridges.append(StreamImport(exporter, accounts[name], passage))
                continue
            export = export_for(wanted, name, settings[wanted.account].exports) or NOT_STATED
            for party in (wanted.account, name):
                replies.setdefault(party, Replies(accounts[party], reply_id, time.time_ns))
            replies[wanted.account].back[accounts[name]] = replies[name]
            replies[name].back[exporter] = replies[wanted.account]
            service = ServiceImport(
                exporter,
                accounts[name],
                passage,
                replies[wanted.account],
                is_single=export.response_type == "singleton",
                ttl_ns=int(export.response_threshold_s * 1e9),
                share=wanted.share,
            )
            bridges.append(service)
    return bridges


def reply_id() -> bytes:
    return nuid.new()[:REPLY_ID_LENGTH].encode()
