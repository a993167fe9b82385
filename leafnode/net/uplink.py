"""Keeps one leaf link to a hub: dial, authenticate, and again, for ever.

One line in the log when a link comes up, one when it is lost (with the reason and how long it lasted), one at the
first failed attempt; silence while attempts go on, with a reminder every hour, unless the configuration wants one for
each so many attempts.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from leafnode.config.options import LeafRemote, ServerUrl
from leafnode.net import backoff
from leafnode.net.endpoint import HIGH_WATER, LOW_WATER, Endpoint
from leafnode.net.tls import is_pinned, reason_of
from leafnode.route.leaf import Leaf

DIAL_SECONDS = 5.0  # to connect a socket; LTE needs more than the second that nats-server gives
HANDSHAKE_SECONDS = 10.0  # from the connection to the exchange of interest, TLS included
LOOP_SECONDS = 30.0  # pause after a loop was detected (nats-server)
REMIND_SECONDS = 3600.0  # between log lines while a hub stays away
STABLE_SECONDS = 10.0  # a link that lasted this long resets the delays
FIRST_PING_SECONDS = 1.0

log = logging.getLogger("leafnode.leaf")


class LeafEndpoint(Endpoint):
    """The socket of one link."""

    lost_reason = "closed by the hub"

    def __init__(
        self,
        leaf: Leaf,
        tls: ssl.SSLContext | None,
        host: str,
        *,
        force_tls: bool,
        limits: "Limits",
        pins: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(
            max_pending=limits.max_pending,
            write_deadline_s=limits.write_deadline_s,
            ping_interval_s=limits.ping_interval_s,
            ping_max=limits.ping_max,
        )
        self.leaf = leaf
        self.core = leaf
        self.done = asyncio.Event()
        self._tls = tls
        self._host = host
        self._force_tls = force_tls
        self._pins = pins
        self._upgrading: asyncio.Task[None] | None = None

    def opened(self) -> None:
        self.leaf.wake = self.wake
        self.leaf.on_pong = self.on_pong
        self.leaf.wants_tls = self._maybe_upgrade
        self.start_pings(FIRST_PING_SECONDS)

    def _maybe_upgrade(self) -> None:
        if self.transport.get_extra_info("ssl_object") is not None:  # the handshake came first
            self._connect()
        elif self._force_tls or self.leaf.remote.get("tls_required") is True:
            self._upgrading = self._loop.create_task(self._upgrade(), name="leaf-tls")
        else:
            self.leaf.send_connect()

    async def _upgrade(self) -> None:
        context = self._tls or ssl.create_default_context()
        try:
            transport = await self._loop.start_tls(self.transport, self, context, server_hostname=self._host)
        except (OSError, ssl.SSLError) as error:
            self.leaf.fail("", f"TLS handshake failed: {reason_of(error)}")
            self.transport.abort()
            return
        if transport is not None:
            self.transport = transport
            self.transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
            self._connect()

    def _connect(self) -> None:
        if is_pinned(self._pins, self.transport.get_extra_info("ssl_object")):
            self.leaf.send_connect()
        else:
            self.leaf.fail("", "TLS handshake failed: the hub's certificate is none of the pinned ones")

    def quiet_ping(self) -> bool:
        return False  # a spoke pings whatever the traffic: that is how a dead link is noticed

    def closed(self) -> None:
        self.done.set()


class Limits:
    """Of a link; seconds and bytes."""

    def __init__(self, *, max_pending: int, write_deadline_s: float, ping_interval_s: float, ping_max: int) -> None:
        self.max_pending = max_pending
        self.write_deadline_s = write_deadline_s
        self.ping_interval_s = ping_interval_s
        self.ping_max = ping_max


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
        make_leaf: Callable[[ServerUrl], Leaf],
        limits: Limits,
        *,
        reconnect_s: float,
        next_id: Callable[[], int],
        tls: ssl.SSLContext | None = None,
        reports: Reports = NO_REPORTS,
    ) -> None:
        """`next_id()` numbers connections."""
        self._reports = reports
        self._failures = 0  # in a row
        self._last_said = 0.0
        self.remote = remote
        self.leaf: Leaf | None = None  # the link while it is up or being made
        self.endpoint: LeafEndpoint | None = None  # its socket
        self.cid = 0  # of the last attempt
        self.host, self.port = "", 0
        self.outages = 0
        self.last_error = ""
        self._before = {"in_msgs": 0, "in_bytes": 0, "out_msgs": 0, "out_bytes": 0}  # of links that are gone
        self._make_leaf = make_leaf
        self._limits = limits
        self._reconnect_s = reconnect_s
        self._tls = tls
        self._next_id = next_id

    async def run(self) -> None:
        """Until cancelled."""
        delays = self._delays()
        while True:
            for url in self._targets():
                began = time.monotonic()
                leaf, error = await self._attempt(url)
                lasted = time.monotonic() - began
                self._before = self.totals()
                self.leaf = None
                if leaf is not None and leaf.up:
                    self.outages += 1
                    self._failures = 0
                    log.warning("leaf link to %s lost after %.1f s: %s", url, lasted, error)
                    self._last_said = time.monotonic()
                    delays = self._delays() if lasted > STABLE_SECONDS else delays
                elif self._is_worth_a_line(error):
                    log.warning("leaf link to %s failed: %s; trying again for ever", url, error)
                    self._last_said = time.monotonic()
                self.last_error = error
                pause = LOOP_SECONDS if leaf is not None and leaf.loop_detected else next(delays)
                await asyncio.sleep(pause)

    def _is_worth_a_line(self, error: str) -> bool:
        """Of one more attempt that failed."""
        self._failures += 1
        every = self._reports.again if self.outages else self._reports.first
        if every is not None:
            return self._failures == 1 or self._failures % every == 0
        return error != self.last_error or time.monotonic() - self._last_said > REMIND_SECONDS

    @property
    def is_up(self) -> bool:
        return self.leaf is not None and self.leaf.up and not self.leaf.closing

    def totals(self) -> dict[str, int]:
        """Messages and payload bytes over all links of this remote since the start."""
        leaf = self.leaf
        if leaf is None:
            return dict(self._before)
        return {name: before + int(getattr(leaf, name)) for name, before in self._before.items()}

    def _delays(self) -> Iterator[float]:
        return backoff.delays(random.uniform, first_seconds=self._reconnect_s)

    def _targets(self) -> Sequence[ServerUrl]:
        urls = list(self.remote.urls)
        if not self.remote.no_randomize:
            random.shuffle(urls)
        return urls

    async def _attempt(self, url: ServerUrl) -> tuple[Leaf | None, str]:
        """One connection from dialling to its end; says why it ended."""
        loop = asyncio.get_running_loop()
        leaf = self._make_leaf(url)
        rules = self.remote.tls
        endpoint = LeafEndpoint(
            leaf,
            self._tls,
            url.host,
            force_tls=url.is_tls or self._tls is not None,
            limits=self._limits,
            pins=rules.pinned_certs if rules else frozenset(),
        )
        first = self._tls if rules is not None and rules.handshake_first else None
        self.leaf, self.host, self.port = leaf, url.host, url.port
        self.endpoint, self.cid = endpoint, self._next_id()
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await loop.create_connection(lambda: endpoint, url.host, url.port, ssl=first)
        except ssl.SSLError as error:
            return None, f"TLS handshake failed: {reason_of(error)}"
        except (OSError, TimeoutError) as error:
            return None, str(error) or f"no answer within {DIAL_SECONDS:.0f} s"
        watchdog = loop.call_later(HANDSHAKE_SECONDS, _give_up_unless_up, leaf, endpoint)
        try:
            await endpoint.done.wait()
        finally:
            watchdog.cancel()
            if not leaf.closing:
                leaf.end()
                endpoint.transport.abort()
        return leaf, leaf.close_reason or "closed by the hub"


def _give_up_unless_up(leaf: Leaf, endpoint: LeafEndpoint) -> None:
    if not leaf.up:
        endpoint.give_up(f"no handshake within {HANDSHAKE_SECONDS:.0f} s")
