"""Keeps one leaf link to a hub: dial, authenticate, and again, for ever.

    connecting --link--> up --end--> waiting --pause--> connecting          (`net.outage` has the words for all of it)

A link may be lost or refused for good reasons and come back years later, so nothing here gives up: the pauses grow to
five seconds, with jitter, and begin anew after a link that held.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from leafnode.config.links import parse_url
from leafnode.config.options import LeafRemote, ServerUrl
from leafnode.errors import LeafnodeError
from leafnode.net import backoff, dial
from leafnode.net.endpoint import HIGH_WATER, LOW_WATER
from leafnode.net.link_endpoint import Limits, LinkEndpoint
from leafnode.net.outage import Outage, explain
from leafnode.net.tls import is_pinned, reason_of
from leafnode.route.leaf import Leaf

DIAL_SECONDS = 5.0  # to connect a socket; LTE needs more than the second that nats-server gives
HANDSHAKE_SECONDS = 10.0  # from the connection to the exchange of interest, TLS included
LONG_SECONDS = 30.0  # pause after a loop, or what else does not pass by itself (nats-server)
REMIND_SECONDS = 3600.0  # between log lines while a hub stays away
STABLE_SECONDS = 10.0  # a link that lasted this long resets the delays
DISCOVERED_MAX = 64  # addresses of a hub's cluster that are remembered

log = logging.getLogger("leafnode.leaf")


class LeafEndpoint(LinkEndpoint):
    """The socket of a link that we dialled."""

    lost_reason = "closed by the hub"

    def __init__(
        self, leaf: Leaf, tls: ssl.SSLContext | None, target: "Target", remote: LeafRemote, limits: Limits
    ) -> None:
        super().__init__(limits)
        self.leaf: Leaf = leaf
        self.core = leaf
        self.done = asyncio.Event()
        self._tls = tls
        self._target = target
        self._remote = remote
        self._upgrading: asyncio.Task[None] | None = None

    def opened(self) -> None:
        self.leaf.wake = self.wake
        self.leaf.on_pong = self.on_pong
        self.leaf.wants_tls = self._maybe_upgrade
        self.watch()

    def _maybe_upgrade(self) -> None:
        is_wanted = self._target.url.is_tls or self._tls is not None or self.leaf.remote.get("tls_required") is True
        if self.transport.get_extra_info("ssl_object") is not None:  # the handshake came first
            self._connect()
        elif is_wanted and not self._target.url.is_websocket:
            self._upgrading = self._loop.create_task(self._upgrade(), name="leaf-tls")
        else:
            self.leaf.send_connect()

    async def _upgrade(self) -> None:
        context = self._tls or ssl.create_default_context()
        try:
            name = self._target.tls_name
            transport = await self._loop.start_tls(self.transport, self, context, server_hostname=name)
        except (OSError, ssl.SSLError) as error:
            self.leaf.fail("", f"TLS handshake failed: {reason_of(error) or 'the connection ended'}")
            self.be_gone()
            return
        if transport is not None:
            self.transport = transport
            self.transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
            self._connect()

    def _connect(self) -> None:
        pins = self._remote.tls.pinned_certs if self._remote.tls else frozenset[str]()
        if is_pinned(pins, self.transport.get_extra_info("ssl_object")):
            self.leaf.send_connect()
        else:
            self.leaf.fail("", "TLS handshake failed: the hub's certificate is none of the pinned ones")

    def closed(self) -> None:
        self.done.set()


class Target(NamedTuple):
    """Where to dial."""

    url: ServerUrl
    tls_name: str
    """The name that the hub's certificate must have: of an address that a hub told us, the configured one."""


State = Literal["up", "connecting", "waiting"]
Stored = tuple[int, int]
"""Messages ever stored in the account's streams, and bytes in them now."""


class Reports(NamedTuple):
    """Of so many failed attempts one is logged, before a link was ever up and after; None: as it seems useful."""

    first: int | None = None
    again: int | None = None


NO_REPORTS = Reports()


class Uplink:
    """One remote of the configuration."""

    def __init__(
        self,
        remote: LeafRemote,
        make_leaf: Callable[[ServerUrl, Callable[[Leaf], None]], Leaf],
        limits: Limits,
        *,
        reconnect_s: float,
        dial_s: float | None,
        next_id: Callable[[], int],
        stored: Callable[[], Stored],
        tls: ssl.SSLContext | None = None,
        reports: Reports = NO_REPORTS,
    ) -> None:
        """`make_leaf(url, on_up)`; `next_id()` numbers connections; `dial_s`: None = what suits a mobile network."""
        self._reports = reports
        self.remote = remote
        self.leaf: Leaf | None = None  # the link while it is up or being made
        self.endpoint: LeafEndpoint | None = None  # its socket
        self.cid = 0  # of the last attempt
        self.host, self.port = "", 0
        self.outages = 0
        self.attempts = 0
        self.last_error = ""
        self.last_outage_s = 0.0  # how long the last one lasted
        self._before = {"in_msgs": 0, "in_bytes": 0, "out_msgs": 0, "out_bytes": 0}  # of links that are gone
        self._make_leaf = make_leaf
        self._limits = limits
        self._reconnect_s = reconnect_s
        self._dial_s = remote.dial_timeout_s or dial_s or DIAL_SECONDS
        self._tls = tls
        self._next_id = next_id
        self._stored = stored
        self._outage: Outage | None = Outage(time.monotonic(), stored=stored())
        self._up_since_s = 0.0
        self._discovered: tuple[ServerUrl, ...] = ()
        self._last_said_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        delays = self._delays()
        while True:
            for target in self._targets():
                leaf, why = await self._attempt(target)
                self._before = self.totals()
                self.leaf = None
                lasted_s = self._note_end(leaf, target.url, why)
                if lasted_s > STABLE_SECONDS:
                    delays = self._delays()
                await asyncio.sleep(self._pause(leaf, delays))

    def _pause(self, leaf: Leaf | None, delays: Iterator[float]) -> float:
        return LONG_SECONDS if leaf is not None and leaf.must_wait else next(delays)

    # what happened -----------------------------------------------------------------------------------------------

    def _came_up(self, leaf: Leaf) -> None:
        now = time.monotonic()
        outage, self._outage = self._outage, None
        self._up_since_s = now
        if outage is not None and (outage.lost_because or outage.attempts):
            self.last_outage_s = now - outage.began_s
            what = "is back" if outage.lost_because else "is there at last"
            log.warning("leaf link to %s %s: %s", self._shown(), what, outage.autopsy(now, self._stored()))

    def _note_end(self, leaf: Leaf | None, url: ServerUrl, why: str) -> float:
        """Seconds for which there was a link."""
        now = time.monotonic()
        self.last_error = why
        if leaf is not None:
            self._discover(leaf, url)
        if leaf is not None and leaf.up:
            self.outages += 1
            lasted_s = now - self._up_since_s
            self._outage = Outage(now, why, self._stored())
            self._last_said_s = now
            log.warning("leaf link to %s lost after %.1f s: %s", url, lasted_s, why)
            return lasted_s
        outage = self._outage = self._outage or Outage(now, stored=self._stored())
        is_new = outage.failed(why)
        every = self._reports.again if self.outages else self._reports.first
        if every is not None and (outage.attempts == 1 or outage.attempts % every == 0):
            log.warning("leaf link to %s failed: %s; attempt %d", url, why, outage.attempts)
        elif every is None and is_new:
            self._last_said_s = now
            log.warning("leaf link to %s failed: %s; trying again for ever", url, why)
        elif every is None and now - self._last_said_s > REMIND_SECONDS:
            self._last_said_s = now
            log.warning("leaf link to %s: none for %.0f s: %s", url, now - outage.began_s, outage.tally())
        return 0.0

    def _shown(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_up(self) -> bool:
        return self.leaf is not None and self.leaf.up and not self.leaf.closing

    @property
    def state(self) -> State:
        if self.is_up:
            return "up"
        return "connecting" if self.leaf is not None else "waiting"

    @property
    def down_s(self) -> float:
        """For how long there has been no link; 0 while there is one."""
        return 0.0 if self._outage is None else time.monotonic() - self._outage.began_s

    def describe(self) -> dict[str, Any]:
        """For /linkz. Durations in seconds."""
        outage, endpoint = self._outage, self.endpoint
        shown: dict[str, Any] = {
            "account": self.remote.account,
            "urls": [str(url) for url in self.remote.urls],
            "discovered": [str(url) for url in self._discovered],
            "state": self.state,
            "attempts": self.attempts,
            "outages": self.outages,
            "last_outage_s": round(self.last_outage_s, 3),
            "last_error": self.last_error,
        }
        if outage is None:
            shown["hub"] = self._shown()
            shown["up_s"] = round(time.monotonic() - self._up_since_s, 3)
            shown["rtt_ms"] = round(endpoint.rtt_ns / 1e6, 3) if endpoint else 0.0
            shown["pending_bytes"] = endpoint.pending_bytes if endpoint else 0
            shown["deadline_s"] = self._limits.deadline_s
        else:
            messages, size = self._stored()
            shown["down_s"] = round(time.monotonic() - outage.began_s, 3)
            shown["failures"] = dict(outage.failures)
            shown["stored_messages"] = messages - outage.stored_before[0]
            shown["stored_bytes"] = max(size - outage.stored_before[1], 0)
        return shown

    def totals(self) -> dict[str, int]:
        """Messages and payload bytes over all links of this remote since the start."""
        leaf = self.leaf
        if leaf is None:
            return dict(self._before)
        return {name: before + int(getattr(leaf, name)) for name, before in self._before.items()}

    # where to dial -----------------------------------------------------------------------------------------------

    def _delays(self) -> Iterator[float]:
        return backoff.delays(random.uniform, first_seconds=self._reconnect_s)

    def _targets(self) -> Sequence[Target]:
        """What is configured, then what the hub told us: its own idea of its address may not hold here."""
        urls, told = list(self.remote.urls), list(self._discovered)
        if not self.remote.no_randomize:
            random.shuffle(urls)
            random.shuffle(told)
        name = self.remote.urls[0].host
        return [Target(url, url.host) for url in urls] + [Target(url, name) for url in told]

    def _discover(self, leaf: Leaf, url: ServerUrl) -> None:
        """Other members of the hub's cluster, with the credentials of the configured address."""
        if self.remote.ignore_discovered_servers:
            return
        told = leaf.remote.get("ws_connect_urls" if url.is_websocket else "leafnode_urls")
        if not isinstance(told, list):
            return
        known = {(each.host, each.port) for each in self.remote.urls}
        found: list[ServerUrl] = []
        for words in told[:DISCOVERED_MAX]:
            other = parse_url(f"{url.scheme}://{words}") if isinstance(words, str) else None
            if other is not None and (other.host, other.port) not in known:
                found.append(other.with_secrets_of(self.remote.urls[0]))
        self._discovered = tuple(found)

    # one attempt -------------------------------------------------------------------------------------------------

    async def _attempt(self, target: Target) -> tuple[Leaf | None, str]:
        """One connection from dialling to its end; says why it ended."""
        url = target.url
        leaf = self._make_leaf(url, self._came_up)
        endpoint = LeafEndpoint(leaf, self._tls, target, self.remote, self._limits)
        self.leaf, self.host, self.port = leaf, url.host, url.port
        self.endpoint, self.cid = endpoint, self._next_id()
        self.attempts += 1
        try:
            await dial.connect(endpoint, url, self.remote, self._tls, tls_name=target.tls_name, timeout_s=self._dial_s)
        except (OSError, TimeoutError, LeafnodeError) as error:
            return None, explain(error, host=url.host, timeout_s=self._dial_s)
        watchdogs = self._watchdogs(leaf, endpoint)
        try:
            await endpoint.done.wait()
        finally:
            for watchdog in watchdogs:
                watchdog.cancel()
            if not leaf.closing:
                leaf.end()
                endpoint.transport.abort()
        why = leaf.close_reason or "closed by the hub"
        return leaf, explain(why, host=url.host, timeout_s=self._dial_s)

    def _watchdogs(self, leaf: Leaf, endpoint: LeafEndpoint) -> list[asyncio.TimerHandle]:
        call_later = asyncio.get_running_loop().call_later
        found = [call_later(HANDSHAKE_SECONDS, _give_up_unless_up, leaf, endpoint)]
        if first_info_s := self.remote.first_info_timeout_s:
            found.append(call_later(first_info_s, _give_up_unless_greeted, leaf, endpoint, first_info_s))
        return found


def _give_up_unless_up(leaf: Leaf, endpoint: LeafEndpoint) -> None:
    if not leaf.up:
        endpoint.give_up(f"no handshake within {HANDSHAKE_SECONDS:.0f} s")


def _give_up_unless_greeted(leaf: Leaf, endpoint: LeafEndpoint, seconds: float) -> None:
    if not leaf.remote:
        endpoint.give_up(f"the hub said nothing within {seconds:.3g} s")
