"""The fast ways of a published message; each falls through to the next, and all do what the complete way does.

1. The whole control line is prepared (`PUB sensors.7 42`): one look into a dict gives who gets it and the `MSG` lines;
   two list appends a receiver. Frames with the same line make a row, which one regular expression finds.
2. The subject has a route: the rest of the frame (reply, size, payload) is forwarded as it came, for `MSG` and `PUB`
   end alike, `HMSG` and `HPUB` too.
3. All subjects of the same stem go the same way (`sensors.>` is subscribed to, and nothing below it): as 2, without
   anything being remembered of the subject.
4. One stream takes the subject, and nobody else: it is handed the message.

Frames of one subject, or of one stem, that follow each other make a row as well, whatever their sizes and replies
(`leafnode.route.rows`). Anything else goes the complete way, in `leafnode.route.session`.
"""

from collections.abc import Sequence
from typing import Protocol

from leafnode.route.account import Account
from leafnode.route.known import FastSink, Known, Line, Route
from leafnode.route.message import Message, Subscription
from leafnode.route.rows import ROW_MIN, Column, payload_bytes, wants_answer
from leafnode.route.subject import RESERVED_REPLIES
from leafnode.wire.control import SIZE_DIGITS_MAX

PAUSE_MAX = 64  # frames after which a row is tried again where there was none; few enough for a chunk to have them
CR, LF = 13, 10


class Publisher(Protocol):
    """Whose messages these are: they are counted for it."""

    in_msgs: int
    in_bytes: int
    fed: set[FastSink]  # who got something and is still to be woken

    @property
    def max_control_line(self) -> int: ...

    def give(self, sub: Subscription, message: Message, size: int) -> None:
        """Hand a message of so many bytes to the one who wants it."""
        ...


class FastWays:
    """What one publisher sends, as far as it needs no thought."""

    __slots__ = ("_account", "_known", "_pause", "_publisher", "_to_stream", "_touched")

    def __init__(self, publisher: Publisher, account: Account, known: Known) -> None:
        self._publisher = publisher
        self._account = account
        self._known = known
        self._touched: list[Route] = []  # routes with something to count
        self._to_stream = False  # the newest message went to a stream: rows are for clients
        self._pause = ROW_MIN  # changes of the line before a row of different lines is tried

    def advance(self, data: bytes, position: int) -> tuple[int, int]:
        """Forward what can be forwarded. Returns where that ended, and how many bytes the frame that begins there
        needs if they are not there yet; 0: it must go the complete way.

        Everything is counted when it returns.
        """
        try:
            return self._advance(data, position)
        finally:
            self._settle()

    def _advance(self, data: bytes, position: int) -> tuple[int, int]:  # a call a message would cost too much
        end = len(data)
        find = data.find
        prepared = self._known.lines.get
        last: Line | None = None
        run = 0  # messages in a row with the same line
        changes = 0  # of the line
        while True:
            after = find(b"\n", position) + 1
            if not after:
                break
            line = data[position:after]
            hit = prepared(line)
            if hit is not None:
                size, _, targets, _ = hit
                stop = after + size
                if stop > end:
                    self._note(last, run)
                    return position, stop - position
                if data[stop - 1] != LF or data[stop - 2] != CR:
                    break
                body = data[after:stop]
                for append, head in targets:
                    append(head)
                    append(body)
                position = stop
                if hit is last:
                    run += 1
                    if run == ROW_MIN:
                        position = self._row_of_line(line, hit, data, stop)
                        run += (position - stop) // (size + len(line))
                    continue
                self._note(last, run)
                last = hit
                run = 1
            else:
                stop = self._forward(line, data, position, after, end)
                if not stop:
                    break
                if stop > end:
                    self._note(last, run)
                    return position, stop - position
                position = stop
                if self._to_stream:
                    self._to_stream = False
                    continue
            changes += 1
            if changes == self._pause:
                changes = 0
                position = self._row(data, position)
        self._note(last, run)
        return position, 0

    # rows --------------------------------------------------------------------------------------------------------

    def _row_of_line(self, line: bytes, hit: Line, data: bytes, position: int) -> int:
        """All frames from here on that begin with the same line, at once; returns where they end."""
        row = self._known.row_of_line(line, hit.payload) if hit.route.all_differ else None
        found = row.match(data, position) if row is not None else None
        stop = found.end() if found else position
        if hit.targets and stop > position:
            size = hit.size
            bodies = [data[i : i + size] for i in range(position + len(line), stop, size + len(line))]
            for append, head in hit.targets:
                append(head)
                append(head.join(bodies))
        return stop

    def _row(self, data: bytes, position: int) -> int:
        """All frames from here on of one subject or one stem, at once; returns where they end."""
        rows = self._known.rows(self._pause)
        if rows is None:
            return position
        subject, rests, stop = rows.of_subject(data, position)
        if len(rests) >= ROW_MIN:
            forwarded = self._row_of_subject(subject, rests)
        else:
            stem, subjects, differing, stop = rows.of_stem(data, position)
            forwarded = len(subjects) >= ROW_MIN and self._row_of_stem(stem, subjects, differing)
        self._pause = ROW_MIN if forwarded else min(2 * self._pause, PAUSE_MAX)
        return stop if forwarded else position

    def _row_of_subject(self, subject: bytes, rests: list[bytes]) -> bool:
        route = self._account.route(subject)
        if route is None or not _can_take(route, rests):
            return False
        for append, head in route.targets or ():
            append(head)
            append(head.join(rests))
        self._count(route, len(rests), payload_bytes(rests))
        return True

    def _row_of_stem(self, stem: bytes, subjects: Column, rests: Column) -> bool:
        route = self._account.stem_route(stem)
        literal = self._account.subscriptions.literal
        if route is None or not _can_take(route, rests) or (literal and not literal.keys().isdisjoint(subjects)):
            return False
        count = len(subjects)
        pieces = [b"MSG "] * (4 * count)  # filled by columns: nothing here is done a message
        pieces[1::4] = subjects
        pieces[3::4] = rests
        for append, sid in route.targets or ():
            pieces[2::4] = [sid] * count
            append(b"".join(pieces))
        self._count(route, count, payload_bytes(rests))
        return True

    # one by one --------------------------------------------------------------------------------------------------

    def _forward(self, line: bytes, data: bytes, position: int, after: int, end: int) -> int:
        """Second and third way. 0: not possible; else where the frame ends, beyond `end` if it is not all there."""
        words = line.split(b" ")  # odd spacing makes empty words: their subject or reply is unknown or refused below
        verb = words[0]
        number = words[-1]
        known = self._known
        size = known.sizes.get(number) or known.learn_size(number)
        plain = 3 if verb == b"PUB" else 4  # words of a line without a reply
        count = len(words)
        if not size or not plain <= count <= plain + 1:
            return 0
        if plain == 4 and not (verb == b"HPUB" and known.takes_headers and _is_header_size(words[-2], size)):
            return 0
        if count > plain and (words[2].startswith(RESERVED_REPLIES) or len(line.split()) != count):
            return 0
        subject = words[1]
        matched = self._account.routes.get(subject)
        if matched is None and (len(line.split()) != count or len(line) > self._publisher.max_control_line):
            return 0
        stop = after + size
        if stop > end:
            return stop
        if data[stop - 1] != LF or data[stop - 2] != CR:
            return 0
        body_at = position + len(verb) + len(subject) + 2
        route = matched.route if matched is not None else self._account.route(subject)
        if route is None:
            return stop if plain == 3 and self._forward_once(subject, data[body_at:stop], size - 2) else 0
        targets = route.targets
        if targets is None:
            return stop if route.stream is not None and self._give(route.stream, words, line, data[after:stop]) else 0
        if (count > plain and not targets) or (plain == 4 and not route.all_take_headers):
            return 0
        if targets:
            body = data[body_at:stop]
            for append, head in targets:
                if plain == 4:
                    append(b"H")
                append(head)
                append(body)
        self._count(route, 1, size - 2)
        if count == plain:
            known.prepare(line, route, size - 2, int(words[2]) if plain == 4 else -1)
        return stop

    def _give(self, sub: Subscription, words: list[bytes], line: bytes, body: bytes) -> bool:
        """Hand a message to the one stream that takes it; False if its line is too long."""
        if len(line) > self._publisher.max_control_line:
            return False
        has_headers = words[0] == b"HPUB"
        split = int(words[-2]) if has_headers else 0
        reply = words[2] if len(words) > 3 + has_headers else b""
        message = Message(words[1], reply, body[:split], body[split:-2])
        self._publisher.give(sub, message, len(body) - 2)
        self._to_stream = True
        return True

    def _forward_once(self, subject: bytes, rest: bytes, payload: int) -> bool:
        """One message of a subject that is not remembered; False if it needs the complete way."""
        account = self._account
        if subject not in account.subscriptions.literal:
            route = account.stem_route(subject[: subject.rfind(b".") + 1])
            if route is not None and route.targets:
                for append, sid in route.targets:
                    append(b"MSG %b%b" % (subject, sid))
                    append(rest)
                self._count(route, 1, payload)
                return True
        subs = account.plain_clients(subject)
        if not subs:
            return False
        self._publisher.in_msgs += 1
        self._publisher.in_bytes += payload
        for sub in subs:
            sink: FastSink = sub.sink  # type: ignore[assignment]
            sink.out += (b"MSG %b %b " % (subject, sub.sid), rest)
            sub.delivered += 1
            sink.out_msgs += 1
            sink.out_bytes += payload
            self._publisher.fed.add(sink)
        return True

    # counting ----------------------------------------------------------------------------------------------------

    def _note(self, line: Line | None, run: int) -> None:
        """So many messages with the same line."""
        if line is not None:
            self._count(line.route, run, run * line.payload)

    def _count(self, route: Route, messages: int, size: int) -> None:
        """Remember what is to be counted; `size`: bytes of payload."""
        if not route.messages:
            self._touched.append(route)
        route.messages += messages
        route.size += size

    def _settle(self) -> None:
        """Count what was delivered: nobody may look at a counter before."""
        publisher, fed = self._publisher, self._publisher.fed
        for route in self._touched:
            publisher.in_msgs += route.messages
            publisher.in_bytes += route.size
            fed.update(route.count())
        self._touched.clear()


def _can_take(route: Route, rests: Sequence[bytes]) -> bool:
    """Where nobody listens, each request has to be told so; who subscribed twice gets the copies in turn."""
    if route.targets:
        return route.all_differ
    return route.targets is not None and not any(map(wants_answer, rests))


def _is_header_size(text: bytes, size: int) -> bool:
    """Whether it can be that of a message with `size` bytes, line end included."""
    return text.isdigit() and len(text) <= SIZE_DIGITS_MAX and text[:1] != b"0" and int(text) <= size - 2
