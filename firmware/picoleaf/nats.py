"""One connection to a NATS server: two fixed buffers, and everything with a meaning parsed in place.

    await connection.open(host, port, options)      INFO, CONNECT, inbox, PONG; raises OSError or ServerError
    connection.put(subject, token, id, body)        an HPUB with Nats-Msg-Id into the transmit buffer
    await connection.flush()                        to the socket
    await connection.receive()                      for ever: acknowledgements go to `on_ack(token, seq, error)`

Only one task may call `put`, `flush` and `request`, because MicroPython's stream writer allows one; another runs
`receive`. Deadlines are the caller's (link.py): `heard` says when bytes last came, `ping()` asks for some.
Replies come to one inbox, `_INBOX.RANDOM.TOKEN`; the token is the number that the caller gave.
"""

import asyncio
import binascii
import json
import os
import sys

TX_BYTES = 1440  # about one TCP segment: a window of small readings leaves in one packet
RX_BYTES = 2048  # INFO of a cluster and a stored reading fit; longer lines and bodies are skipped
CONNECT_LINES = 16  # lines before the PONG of the handshake; a server sends three
IS_MICRO = sys.implementation.name == "micropython"
TCP_NODELAY = (6, 1)  # (IPPROTO_TCP, TCP_NODELAY) where the socket module does not name them
ASK_TOKEN = 0  # the inbox token of a request; publishing counts from 1


class ServerError(Exception):
    """The server said -ERR, or is not a NATS server."""


class Connection:
    """Reusable: `open` after `close` starts afresh with the same buffers."""

    def __init__(self, uptime_ms):
        self.on_ack = lambda token, seq, error: None
        self.on_error = lambda text: None
        self.on_due = lambda: None  # a flush is due
        self.heard = 0
        self.stream = ""
        self.skipped = 0
        self._uptime_ms = uptime_ms
        self._tx = bytearray(TX_BYTES)
        self._tx_view = memoryview(self._tx)
        self._rx = bytearray(RX_BYTES)
        self._rx_view = memoryview(self._rx)
        self._subscriptions = {}
        self._reader = self._writer = None
        self._reset()

    def _reset(self):
        self._tx_len = self._start = self._end = 0
        self._skip = 0
        self._in_long_line = False
        self._pongs_due = 0
        self._ping_due = False
        self.pinged = 0
        self.stream = ""
        self._answer = None
        self._answered = asyncio.Event()
        self.inbox = b"_INBOX." + binascii.hexlify(os.urandom(5)) + b"."

    # Life.

    async def open(self, host, port, options):
        """Connects and authenticates. `options` are CONNECT fields: user and pass, or auth_token, and a name."""
        self._reset()
        self._reader, self._writer = await asyncio.open_connection(host, port)
        self._no_delay()
        self._greeted = False
        fields = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1}
        fields.update({"lang": "micropython", "version": "1.0", "echo": False})
        fields.update(options)
        await self._until(b"INFO")
        # One write: a server that refuses us closes at once, and what it had not read would reset its -ERR away.
        self._write(b"CONNECT " + json.dumps(fields).encode() + b"\r\nPING\r\n")
        await self._writer.drain()
        await self._until(b"PONG")
        self._write(b"SUB " + self.inbox + b"* 1\r\n")
        for sid, (subject, _) in self._subscriptions.items():
            self._write(b"SUB %s %d\r\n" % (subject, sid))
        await self._writer.drain()

    async def _until(self, word):
        """Reads lines of the handshake up to one that starts with `word`."""
        for _ in range(CONNECT_LINES):
            while True:
                at = self._start
                eol = self._line_end()
                if eol >= 0:
                    break
                await self._more()
            self._start = eol + 2
            if self._rx.find(word, at, eol) == at:
                return
            if self._rx.find(b"-ERR", at, eol) == at:
                raise ServerError(str(bytes(self._rx_view[at + 5 : eol]), "utf-8"))
        raise ServerError("not a NATS server")

    def _no_delay(self):
        if IS_MICRO:
            try:
                self._writer.s.setsockopt(TCP_NODELAY[0], TCP_NODELAY[1], 1)
            except (OSError, AttributeError):
                pass  # slower, not broken

    async def close(self):
        writer, self._writer, self._reader = self._writer, None, None
        if writer is None:
            return
        try:
            if IS_MICRO:
                await writer.wait_closed()
            else:
                writer.transport.abort()
                await writer.wait_closed()
        except OSError:
            pass  # it was broken already

    # Sending.

    def put(self, subject, token, message_id, body):
        """Adds one message; False when the buffer has no room for it (flush, then it fits)."""
        head = b"NATS/1.0\r\nNats-Msg-Id: %s\r\n\r\n" % message_id
        line = b"HPUB %s %s%d %d %d\r\n" % (subject, self.inbox, token, len(head), len(head) + len(body))
        if self._tx_len + len(line) + len(head) + len(body) + 2 > TX_BYTES:
            return False
        for part in (line, head, body, b"\r\n"):
            end = self._tx_len + len(part)
            self._tx[self._tx_len : end] = part
            self._tx_len = end
        return True

    def ping(self):
        """The next flush carries a PING; `heard` moves when the answer comes."""
        self._ping_due = True
        self.pinged = self._uptime_ms()

    async def flush(self):
        if self._tx_len:
            self._write(self._tx_view[: self._tx_len])
            self._tx_len = 0
        while self._pongs_due:
            self._pongs_due -= 1
            self._write(b"PONG\r\n")
        if self._ping_due:
            self._ping_due = False
            self._write(b"PING\r\n")
        await self._writer.drain()

    @property
    def talkative(self):
        """Whether a flush is due."""
        return self._tx_len or self._pongs_due or self._ping_due

    def _write(self, data):
        self._writer.write(data if IS_MICRO else bytes(data))  # CPython's may keep a view of what is reused here

    async def request(self, subject, body):
        """The first reply's body; b"" when nobody serves `subject`. The caller sets the deadline."""
        self._answered.clear()
        await self.flush()
        self._write(b"PUB %s %s%d %d\r\n%s\r\n" % (subject, self.inbox, ASK_TOKEN, len(body), body))
        await self._writer.drain()
        await self._answered.wait()
        return self._answer

    def subscribe(self, subject, callback):
        """`callback(subject, body)` for each message, on this and every later connection; takes effect at `open`."""
        self._subscriptions[len(self._subscriptions) + 2] = (subject.encode(), callback)

    # Receiving.

    async def receive(self):
        """Never returns; raises OSError at the end of the connection, ServerError on a fatal -ERR."""
        while True:
            while self._step():
                pass
            await self._more()

    async def _more(self):
        """Reads what is there into the buffer."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == RX_BYTES:
            rest = self._rx[self._start : self._end]
            self._rx[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        if IS_MICRO:
            count = await self._reader.readinto(self._rx_view[self._end :])
        else:
            data = await self._reader.read(RX_BYTES - self._end)
            count = len(data)
            self._rx[self._end : self._end + count] = data
        if count is None:
            return
        if count == 0:
            raise OSError("the server closed the connection")
        self._end += count
        self.heard = self._uptime_ms()

    def _line_end(self):
        """Where the line at the start ends; -1 when bytes are missing. Skips a line longer than the buffer."""
        while True:
            eol = self._rx.find(b"\r\n", self._start, self._end)
            if eol < 0:
                if self._end - self._start == RX_BYTES:
                    self._in_long_line = True
                    self._start = self._end - 1  # the last byte may be half of the line's end
                return -1
            if not self._in_long_line:
                return eol
            self._in_long_line = False
            self.skipped += 1
            self._start = eol + 2

    def _step(self):
        """Takes one operation out of the buffer; False when bytes are missing."""
        if self._skip:
            count = min(self._skip, self._end - self._start)
            self._start += count
            self._skip -= count
            if self._skip:
                return False
        eol = self._line_end()
        if eol < 0:
            return False
        rx, at = self._rx, self._start
        first = rx[at]
        if first == 77 or first == 72:  # MSG, HMSG
            return self._message(at, eol, first == 72)
        self._start = eol + 2
        if rx.find(b"PING", at, eol) == at:
            self._pongs_due += 1
            self.on_due()
        elif rx.find(b"-ERR", at, eol) == at:
            self._complaint(str(bytes(self._rx_view[at + 5 : eol]), "utf-8"))
        return True  # PONG, +OK and a later INFO need nothing

    def _complaint(self, text):
        # These two leave the connection open (client protocol, -ERR catalogue); everything else ends it.
        if "ermissions Violation" in text or "Invalid" in text:
            self.on_error(text)
        else:
            raise ServerError(text)

    def _message(self, at, eol, has_header):
        rx = self._rx
        subject_at = at + (5 if has_header else 4)
        subject_end = rx.find(b" ", subject_at, eol)
        size_at = rx.rfind(b" ", subject_end, eol) + 1
        size = _number(rx, size_at, eol)
        body_at = eol + 2
        if body_at + size + 2 > self._end:
            if body_at - at + size + 2 <= RX_BYTES:
                if body_at + size + 2 > RX_BYTES:
                    self._move_down()
                return False
            self.skipped += 1
            self._skip = size + 2
            self._start = body_at
            return True
        self._start = body_at + size + 2
        header = 0
        if has_header:
            header = _number(rx, rx.rfind(b" ", subject_end, size_at - 1) + 1, size_at - 1)
        if rx.find(self.inbox, subject_at, subject_end) == subject_at:
            token = _number(rx, subject_at + len(self.inbox), subject_end)
            self._reply(token, body_at, header, body_at + size)
        else:
            sid = int(bytes(rx[subject_end + 1 : eol]).split()[0])
            if sid in self._subscriptions:
                subject = str(bytes(rx[subject_at:subject_end]), "utf-8")
                self._subscriptions[sid][1](subject, bytes(rx[body_at + header : body_at + size]))
        return True

    def _move_down(self):
        rest = self._rx[self._start : self._end]
        self._rx[: len(rest)] = rest
        self._start, self._end = 0, len(rest)

    def _reply(self, token, start, header, end):
        rx = self._rx
        nobody = header and rx.find(b"NATS/1.0 503", start, end) == start
        if token == ASK_TOKEN:
            self._answer = b"" if nobody else bytes(rx[start + header : end])
            self._answered.set()
            return
        if nobody:
            self.on_ack(token, 0, "no stream takes it")
            return
        found = rx.find(b'"seq":', start, end)
        if found < 0 or rx.find(b'"error"', start, end) >= 0:
            self.on_ack(token, 0, str(bytes(rx[start + header : end]), "utf-8"))
            return
        if not self.stream:
            self.stream = json.loads(bytes(rx[start + header : end])).get("stream", "")
        found += 6
        while rx[found] == 32:
            found += 1
        self.on_ack(token, _number(rx, found, end), "")


def _number(buffer, at, end):
    """The decimal number that starts at `at`."""
    value = 0
    while at < end:
        digit = buffer[at] - 48
        if not 0 <= digit <= 9:
            break
        value = value * 10 + digit
        at += 1
    return value
