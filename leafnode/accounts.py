"""Accounts as the configuration describes them: their subject mappings."""

import random
from collections.abc import Mapping as Named

from leafnode.config.options import GLOBAL_ACCOUNT, Config, MappingConfig
from leafnode.route.account import Account
from leafnode.route.mapping import WHOLE_PERCENT, Mapping


def furnish(config: Config, accounts: Named[str, Account]) -> None:
    """Give new accounts what the configuration says."""
    cluster = config.cluster.name
    accounts[GLOBAL_ACCOUNT].map(mapping_of(mapping, cluster) for mapping in config.mappings)
    for name, settings in config.accounts.items():
        accounts[name].map(mapping_of(mapping, cluster) for mapping in settings.mappings)


def mapping_of(settings: MappingConfig, cluster: str) -> Mapping:
    """One mapping, for a server in `cluster` (empty: in none): destinations for it replace those for all."""
    ours = [entry for entry in settings.destinations if entry.cluster and entry.cluster == cluster]
    chosen = ours or [entry for entry in settings.destinations if not entry.cluster]
    return Mapping(settings.source, [(entry.subject, entry.weight_percent) for entry in chosen], random.randrange)


def domain_mappings(domain: str) -> list[Mapping]:
    """Requests to `$JS.<domain>.API.…` are requests to us (spec leafnode-protocol section 8)."""
    if not domain:
        return []
    ours = f"$JS.{domain}.API."
    verbs = ("INFO", "STREAM.>", "CONSUMER.>", "DIRECT.>", "META.>", "SERVER.>", "ACCOUNT.>")
    pairs = [(ours + verb, f"$JS.API.{verb}") for verb in verbs]
    pairs += [(f"{ours}{space}.>", f"{space}.>") for space in ("$KV", "$OBJ")]
    return [Mapping(source, [(target, WHOLE_PERCENT)]) for source, target in pairs]
