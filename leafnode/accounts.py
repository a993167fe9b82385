"""Accounts as the configuration describes them: subject mappings and limits."""

import random

from leafnode.config.options import GLOBAL_ACCOUNT, AccountConfig, AccountLimits, Config, MappingConfig
from leafnode.route.limits import Limits
from leafnode.route.mapping import WHOLE_PERCENT, Mapping


def mappings_of(config: Config, account: AccountConfig, *, has_jetstream: bool) -> list[Mapping]:
    """All that an account maps: what is written for it, then what the domains of JetStream ask for."""
    own = (*config.mappings, *account.mappings) if account.name == GLOBAL_ACCOUNT else account.mappings
    found = [mapping_of(mapping, config.cluster.name) for mapping in own]
    found += default_domain_mappings(config, account.name)
    return found + domain_mappings(config.jetstream.domain) if has_jetstream else found


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
