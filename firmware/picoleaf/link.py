"""Keeps the device connected and moves readings from the store to the stream: each of them once, in order.

Up to WINDOW readings are in flight; each is settled by the acknowledgement of the stream that has stored it. When a
connection breaks, the fate of those in flight is unknown ("in doubt"): they may be stored with the acknowledgement
lost. The server drops doubles only for its duplicate window, two minutes, so after a reconnect the stream is asked.
Readings of one subject enter the stream in the order of their numbers, hence the last message of the subject says it:
what is in doubt and not newer than that is there. A refusal (stream full, stream missing) can leave a hole in that
order, so when an earlier acknowledgement told where we were, the few messages since then are looked at one by one.
After a refusal one reading at a time is tried until one is accepted.
"""

import asyncio
import binascii
import json
import os

from . import wifi
from .nats import Connection, ServerError

WINDOW = 16  # readings in flight: a burst fits one TCP segment or two, and RAM for their tickets
TICK_S = 0.2  # how often deadlines are looked at
CONNECT_S = 5.0  # TCP, INFO, CONNECT and PONG
PING_S = 10.0  # silence after which the server is asked whether it is there
PONG_S = 4.0  # for its answer
ACK_S = 5.0  # without any acknowledgement while some are due
ASK_S = 4.0  # for an answer of the stream
PAUSE_S = 0.25  # before the first reconnect; doubles
PAUSE_MAX_S = 8.0  # what a rebooted router costs at most
REFUSED_PAUSE_S = 1.0  # after the stream refused a reading; doubles up to PAUSE_MAX_S
PORT = 4222
STREAM = "TELEMETRY"
NOTHING = (0, 0)


class Link:
    """The supervisor of one device's connection. `say` prints one line about an edge."""

    def __init__(self, settings, store, clock, say):
        self.device = settings["device"]
        self.store = store
        self.clock = clock
        self.say = say
        self.settings = settings
        self.servers = [parse_server(one) for one in settings["servers"]]
        self.window = self.max_window = int(settings.get("window", WINDOW))
        self.ping_ms = int(settings.get("ping_s", PING_S) * 1000)
        self.pong_ms = int(settings.get("pong_s", PONG_S) * 1000)
        self.ack_ms = int(settings.get("ack_s", ACK_S) * 1000)
        self.pause_max = settings.get("pause_max_s", PAUSE_MAX_S)
        self.stream = settings.get("stream", STREAM)
        self.conn = Connection(clock.uptime_ms)
        self.conn.on_ack = self._on_ack
        self.conn.on_error = self._on_error
        self.conn.on_due = self._wake_up
        self.up = False
        self.connects = 0
        self.down_since = clock.uptime_ms()
        self._turn = 0
        self._failures = 0
        self._flying = {}
        self._token = 0
        self._progress = 0
        self._hold_until = 0
        self._refusals = 0
        self._complaint = ""
        self._failure = ""
        self._over = None
        self._reached = {}
        self._known = {}
        self._wake = asyncio.Event()
        store.on_ready = self._wake_up

    def _wake_up(self):
        self._wake.set()

    def down_ms(self):
        """How long there has been no connection; 0 while there is one."""
        return 0 if self.up else max(1, self.clock.uptime_ms() - self.down_since)

    async def run(self):
        """For ever: connect, serve until something breaks, pause, next."""
        said = ""
        while True:
            server = self.servers[self._turn % len(self.servers)]
            try:
                await wifi.join(self.settings.get("wifi"), self.down_ms())
                await asyncio.wait_for(self.conn.open(server[0], server[1], self._options(server)), CONNECT_S)
                self._came_up(server)
                said = ""
                await self._session()
                reason = self._failure
            except asyncio.TimeoutError:
                reason = "no answer within %d s" % CONNECT_S
            except Exception as error:  # unattended: whatever it was, the next try may do better
                reason = _reason(error)
            finally:
                await self.conn.close()
                self._went_down()
            if reason != said:
                self.say("down %s:%d: %s" % (server[0], server[1], reason))
                said = reason
            await asyncio.sleep(self._pause())

    def _options(self, server):
        options = {"name": self.device}
        user, password = server[2] or self.settings.get("user"), server[3] or self.settings.get("password")
        if user:
            options["user"], options["pass"] = user, password or ""
        if self.settings.get("token"):
            options["auth_token"] = self.settings["token"]
        return options

    def _came_up(self, server):
        self.up = True
        self.connects += 1
        self.window = 1 if self._refusals else self.max_window
        self.conn.heard = self._progress = self.clock.uptime_ms()
        self._known = {}
        self._complaint = ""
        self.say("up %s:%d" % (server[0], server[1]))

    def _went_down(self):
        if self.up:
            self.up = False
            self.down_since = self.clock.uptime_ms()
            if len(self._flying):
                self.store.give_back(list(self._flying.values()))
                self._flying.clear()

    def _pause(self):
        """Seconds to wait: doubling, with jitter, so that a fleet does not come back all at once."""
        self._turn += 1
        self._failures += 1
        pause = min(self.pause_max, PAUSE_S * (1 << min(self._failures - 1, 10)))
        return pause * (0.5 + os.urandom(1)[0] / 510)

    # One connection.

    async def _session(self):
        self._failure = ""
        self._over = asyncio.Event()
        tasks = [asyncio.create_task(self._guarded(self.conn.receive)), asyncio.create_task(self._guarded(self._send))]
        try:
            while not self._failure:
                try:
                    await asyncio.wait_for(self._over.wait(), TICK_S)
                except asyncio.TimeoutError:
                    self._check_deadlines()
        finally:
            for task in tasks:
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass

    async def _guarded(self, work):
        try:
            await work()
        except asyncio.TimeoutError:
            self._fail("the stream does not answer")
        except Exception as error:
            self._fail(_reason(error))

    def _fail(self, reason):
        self._failure = self._failure or self._complaint or reason
        self._over.set()

    def _check_deadlines(self):
        now = self.clock.uptime_ms()
        silence = now - self.conn.heard
        if self._flying and now - self._progress > self.ack_ms:
            self._fail("no acknowledgement for %d ms" % self.ack_ms)
        elif self.conn.pinged > self.conn.heard:
            if now - self.conn.pinged > self.pong_ms:
                self._fail("no answer to a ping for %d ms" % self.pong_ms)
        elif silence > self.ping_ms:
            self.conn.ping()
            self._wake.set()
        if self._hold_until and now >= self._hold_until:
            self._hold_until = 0
            self._wake.set()

    async def _send(self):
        while True:
            self._wake.clear()
            await self._fill()
            if self.conn.talkative:
                await self.conn.flush()
            else:
                await self._wake.wait()

    async def _fill(self):
        """Puts readings into the transmit buffer until it, the window or the store is exhausted."""
        while len(self._flying) < self.window and not self._hold_until:
            ticket = self.store.take()
            if ticket is None:
                return
            if ticket.doubt and await self._arrived(ticket):
                self.store.settle(ticket)
                continue
            if not self._flying:
                self._progress = self.clock.uptime_ms()
            self._token += 1
            self._flying[self._token] = ticket
            if not self._put(ticket):
                await self.conn.flush()
                self._put(ticket)

    def _put(self, ticket):
        ms, known = self.store.stamp(ticket)
        body = b'{"v":1,"device":"%s","metric":"%s","seq":%d,"boot":%d,"ms":%d,%s,"clock":%s}' % (
            self.device.encode(),
            ticket.name,
            ticket.key[1],
            ticket.key[0],
            ms,
            ticket.value,
            b"true" if known else b"false",
        )
        return self.conn.put(self._subject(ticket.name), self._token, ticket.id.encode(), body)

    def _subject(self, name):
        return b"tele.%s.%s" % (self.device.encode(), name)

    def _on_ack(self, token, seq, error):
        self._wake.set()
        ticket = self._flying.pop(token, None)
        if ticket is None:
            return
        self._progress = self.clock.uptime_ms()
        self._failures = 0
        if seq:
            self._reached[ticket.name] = seq
            self._refusals = 0
            self.window = self.max_window
            self.store.settle(ticket)
            return
        if not self._refusals:
            self.say("refused %s: %s" % (ticket.id, error))
        self._refusals += 1
        self.window = 1
        pause = min(self.pause_max, REFUSED_PAUSE_S * (1 << min(self._refusals - 1, 10)))
        self._hold_until = self._progress + int(pause * 1000)
        self.store.give_back([ticket], False)

    def _on_error(self, text):
        if text != self._complaint:
            self._complaint = text
            self.say("server: %s" % text)

    # What is in the stream already.

    async def _arrived(self, ticket):
        """Whether a reading in doubt is in the stream. Gives it back to the store when that cannot be found out."""
        try:
            if ticket.name not in self._known:
                self._known[ticket.name] = await self._ask(ticket.name)
        except BaseException:
            self.store.give_back([ticket])
            raise
        last, seen = self._known[ticket.name]
        return ticket.key <= last and (seen is None or ticket.key in seen)

    async def _ask(self, name):
        """(number of the last reading of `name` in the stream, numbers since our last acknowledgement or None)."""
        subject = self._subject(name).decode()
        last, _ = await self._stored({"last_by_subj": subject})
        if last[0] > self.store.boot:  # from a life before this file system: says nothing about ours
            last = NOTHING
        if last == NOTHING or name not in self._reached:
            return last, None
        seen = []
        seq = self._reached[name]
        while len(seen) <= self.max_window:
            key, seq = await self._stored({"seq": seq + 1, "next_by_subj": subject})
            if not seq:
                break
            seen.append(key)
            if key == last:
                return last, seen
        return last, None  # not the stream we knew: the order has to do

    async def _stored(self, question):
        """(number, stream sequence) of one stored message; (NOTHING, 0) when there is none."""
        stream = (self.conn.stream or self.stream).encode()
        asked = self.conn.request(b"$JS.API.STREAM.MSG.GET." + stream, json.dumps(question).encode())
        answer = await asyncio.wait_for(asked, ASK_S)
        message = json.loads(answer).get("message") if answer else None
        if not message:
            return NOTHING, 0
        headers = binascii.a2b_base64(message["hdrs"]) if message.get("hdrs") else b""
        return parse_id(headers, self.device), message["seq"]


def _reason(error):
    """An error in words; its kind as well where the text alone says little."""
    if isinstance(error, (OSError, ServerError)) and str(error):
        return str(error)
    return "%s: %s" % (type(error).__name__, error)


def parse_id(headers, device):
    """(boot, seq) out of a header block; NOTHING when the message is not one of this device."""
    for line in headers.split(b"\r\n"):
        if line.startswith(b"Nats-Msg-Id:"):
            parts = line[12:].strip().decode().rsplit("-", 2)
            if len(parts) == 3 and parts[0] == device and parts[1].isdigit() and parts[2].isdigit():
                return int(parts[1]), int(parts[2])
    return NOTHING


def parse_server(text):
    """(host, port, user, password) of `nats://user:password@host:port` or any shorter form."""
    rest = text.split("://", 1)[-1].rstrip("/")
    login, _, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    host, _, port = place.partition(":")
    if not host or (port and not port.isdigit()):
        raise ValueError("server %s: want nats://HOST:PORT" % place)
    return host, int(port or PORT), user, password
