"""Reads the configuration again and takes it over while clients are connected: on SIGHUP and on request.

All or nothing: first everything that can fail is prepared (the file, certificates, links, the log), then what runs is
changed, in an order in which no client is ever under rules of both (spec monitoring-and-ops section 4). What changed,
or why nothing did, is in the log.
"""

import logging
import os
import random
import time
from typing import TYPE_CHECKING

from leafnode import identity
from leafnode.access import leaf_admission
from leafnode.config.flags import configure
from leafnode.config.options import GLOBAL_ACCOUNT, Config
from leafnode.config.reload import changed, refusal, report
from leafnode.errors import ConfigError, LeafnodeError
from leafnode.net.process import start_log
from leafnode.net.reload import take_over
from leafnode.net.tls import ServerTls, load_certificate
from leafnode.route.account import Account

if TYPE_CHECKING:
    from leafnode.broker import Broker
    from leafnode.net.storage import Storage

log = logging.getLogger("leafnode")


async def reload(broker: "Broker") -> str:
    """Do it; returns why it was refused, or "" when done."""
    old = broker.config
    try:
        if not old.config_file:
            raise ConfigError("can only reload config on servers started with a config file")
        new = configure(old.argv, os.environ)
        reason = refusal(old, new)
        if reason:
            raise ConfigError(reason)
        await _replace(broker, old, new)
    except LeafnodeError as error:
        log.error("Failed to reload server configuration: %s", error)
        return str(error)
    for line in report(old, new):
        log.info("Reloaded: %s", line)
    for warning in new.warnings:
        log.warning("%s", warning)
    log.info("Reloaded server configuration")
    return ""


async def _replace(broker: "Broker", old: Config, new: Config) -> None:
    """Raises LeafnodeError; nothing has changed then."""
    fresh_accounts = [name for name in new.accounts if name not in broker.accounts]
    for name in fresh_accounts:
        broker.accounts[name] = Account(name, random.randrange)
    storage: Storage | None = None
    try:
        known = broker.known(new)
        admit = leaf_admission(new, broker.accounts, known)
        links = broker.links.prepare(new)
        tls = ServerTls(new.tls, optional=new.allow_non_tls) if new.tls else None
        own = broker.known_by_websocket(new)
        websocket = broker.websocket.prepare(new, own) if broker.websocket is not None else None
        storage = await broker.open_store(new.jetstream)
        start_log(new)
    except LeafnodeError:
        if storage is not None:
            await storage.close()
        for name in fresh_accounts:
            del broker.accounts[name]
        raise
    broker.config, broker.loaded_ns = new, time.time_ns()
    for name in fresh_accounts:
        if broker.system is not None:
            broker.system.add(broker.accounts[name])
    if broker.tenants is not None:
        broker.tenants.reload(old.resolver_preload, new.resolver_preload)
    else:
        _take_accounts(broker, old, new)
    if storage is not None:
        await broker.start_jetstream(storage)
    elif not new.jetstream.enabled:
        await broker.stop_jetstream()
    await broker.attach_jetstream(new)
    broker.clients.entrance.tls = tls
    if broker.monitor_tls is not None and new.tls is not None:
        load_certificate(broker.monitor_tls, new.tls)
    _take_info(broker)
    take_over(broker.clients, new, known, own)
    if broker.websocket is not None and websocket is not None:
        broker.websocket.take_over(websocket)
    recheck = new.leafnodes.authorization is None and bool(changed(old, new) & {"accounts", "authorization"})
    await broker.links.take_over(new, links, admit, recheck=recheck)
    _forget_accounts(broker, new)
    broker.on_reloaded()


def _take_info(broker: "Broker") -> None:
    """What clients to come are told."""
    info = broker.clients.info_fields
    if not info.get("ldm"):
        for field in ("connect_urls", "jetstream", "domain"):
            info.pop(field, None)
        info.update(identity.info_fields(broker.config, broker.server_id, broker.port))


def _take_accounts(broker: "Broker", old: Config, new: Config) -> None:
    """Mappings and limits of accounts, and what they import from each other."""
    is_mapped_anew = old.mappings != new.mappings or old.default_js_domain != new.default_js_domain
    for name in broker.accounts:
        before, now = old.account(name), new.account(name)
        is_other = before.mappings != now.mappings or before.limits != now.limits
        if is_other or is_mapped_anew:
            broker.furnish(now)
    broker.imports.settle(new.accounts)


def _forget_accounts(broker: "Broker", new: Config) -> None:
    """Accounts that are no more; their clients are closed by now."""
    kept = {GLOBAL_ACCOUNT, broker.system_account, *new.accounts}
    if broker.tenants is not None:
        return  # they come and go with their JWTs
    for name in broker.accounts.keys() - kept:
        if broker.system is not None:
            broker.system.remove(broker.accounts[name])
        del broker.accounts[name]
        broker.clients.gone.moved.pop(name, None)
        broker.imports.forget(name)
