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

from typing import Protocol

from leafnode.route.account import Account
from leafnode.route.known import FastSink, Known, Line, Route, Targets
from leafnode.route.message import Message, Subscription
from leafnode.route.rows import LINE_MAX, ROW_MIN, Row
from leafnode.route.subject import RESERVED_REPLIES
from leafnode.wire.control import SIZE_DIGITS_MAX

PAUSE_MAX = 64  # frames after which a row is tried again where there was none
REACH_MIN, REACH_MAX = 8192, 65536  # bytes in which a row is looked for: more where there was one
ROW_BYTES_MIN = 512  # of input for which it is worth to begin with a row
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

    __slots__ = (
        "_account",
        "_changes",
        "_in_row",
        "_known",
        "_pause",
        "_publisher",
        "_reach",
        "_to_stream",
        "_touched",
    )

    def __init__(self, publisher: Publisher, account: Account, known: Known) -> None:
        self._publisher = publisher
        self._account = account
        self._known = known
        self._touched: list[Route] = []  # routes with something to count
        self._to_stream = False  # the newest message went to a stream: rows are for clients
        self._pause = ROW_MIN  # changes of the line before a row of different lines is tried
        self._changes = 0  # of the line since then
        self._in_row = False  # there was one when it was tried last
        self._reach = REACH_MIN

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
        need = 0
        if self._in_row and end - position > ROW_BYTES_MIN:
            position = self._row(data, position)
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
                    need = stop - position
                    break
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
                    need = stop - position
                    break
                position = stop
                if self._to_stream:
                    self._to_stream = False
                    continue
            self._changes += 1
            if self._changes >= self._pause:
                position = self._row(data, position)
        self._note(last, run)
        return position, need

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
        self._changes = 0
        rows = self._known.rows(self._pause)
        if rows is None or self._publisher.max_control_line < LINE_MAX:
            return position
        self._in_row = False
        while True:
            row = rows.take(data, position, self._reach)
            if row is None or not (self._forward_stem(row) or self._forward_subject(row)):
                self._reach = REACH_MIN
                break
            self._in_row = True
            is_last = position + self._reach >= len(data)
            position += row.bytes
            self._reach = min(max(4 * row.bytes, REACH_MIN), REACH_MAX)
            if is_last or len(data) - position < ROW_BYTES_MIN:
                break
        self._pause = ROW_MIN if self._in_row else min(2 * self._pause, PAUSE_MAX)
        return position

    def _forward_stem(self, row: Row) -> bool:
        """The subjects differ in the last token, and nobody cares."""
        subjects = row.subjects
        route = None if row.is_one_subject else self._account.stem_route(row.stem)
        literal = self._account.subscriptions.literal
        if route is None or not _can_take(route, row) or (literal and not literal.keys().isdisjoint(subjects)):
            return False
        count = len(subjects)
        _write(route, [b"MSG "] * count, subjects, None, row.replies, row.rests)
        self._count(route, count, row.payload)
        return True

    def _forward_subject(self, row: Row) -> bool:
        """As many as there are of the first subject."""
        if not row.trim_to_first():
            return False
        route = self._account.route(row.subjects[0])
        if route is None or not _can_take(route, row):
            return False
        _write(route, None, row.replies, row.rests)
        self._count(route, len(row.rests), row.payload)
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
        if not size or not plain <= count <= plain + 1 or len(line) > self._publisher.max_control_line:
            return 0
        if plain == 4 and not (verb == b"HPUB" and known.takes_headers and _is_header_size(words[-2], size)):
            return 0
        subject = words[1]
        matched = self._account.routes.get(subject)
        if count > plain and words[2].startswith(RESERVED_REPLIES):
            return 0
        if (matched is None or count > plain) and b" ".join(line.split()) != line[:-2]:
            return 0  # other white space beside a word
        stop = after + size
        if stop > end:
            return stop
        if data[stop - 1] != LF or data[stop - 2] != CR:
            return 0
        body_at = position + len(verb) + len(subject) + 2
        route = matched.route if matched is not None else self._account.route(subject)
        if route is None:
            return stop if plain == 3 and self._forward_once(subject, data[body_at:stop], size - 2) else 0
        if route.stream is not None:
            self._give(route.stream, words, data[after:stop])
            return stop
        targets = route.targets
        if targets is None or (count > plain and not targets) or (plain == 4 and not route.all_take_headers):
            return 0
        _append(targets, data[body_at:stop], has_headers=plain == 4)
        self._count(route, 1, size - 2)
        if count == plain:
            known.prepare(line, route, size - 2, int(words[2]) if plain == 4 else -1)
        return stop

    def _give(self, sub: Subscription, words: list[bytes], body: bytes) -> None:
        """Hand a message to the one stream that takes it."""
        has_headers = words[0] == b"HPUB"
        split = int(words[-2]) if has_headers else 0
        reply = words[2] if len(words) > 3 + has_headers else b""
        message = Message(words[1], reply, body[:split], body[split:-2])
        self._publisher.give(sub, message, len(body) - 2)
        self._to_stream = True

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


def _append(targets: Targets, rest: bytes, *, has_headers: bool) -> None:
    """One frame to everybody; `rest` is what follows its subject."""
    for append, head in targets:
        if has_headers:
            append(b"H")
        append(head)
        append(rest)


def _write(route: Route, *columns: list[bytes] | None) -> None:
    """Frames by columns, so that nothing is done a message. None: what each receiver has of its own; empty: nothing."""
    filled = [column for column in columns if column != []]
    width, height = len(filled), len(filled[-1] or ())
    pieces = [b""] * (width * height)
    for number, column in enumerate(filled):
        if column is not None:
            pieces[number::width] = column
    for sub, (_, own) in zip(route.subs, route.targets or (), strict=False):
        pieces[filled.index(None) :: width] = [own] * height
        sub.sink.out += pieces  # type: ignore[attr-defined]


def _can_take(route: Route, row: Row) -> bool:
    """Where nobody listens, each request has to be told so; who subscribed twice gets the copies in turn."""
    if route.targets:
        return route.all_differ
    return route.targets is not None and not any(row.replies)


def _is_header_size(text: bytes, size: int) -> bool:
    """Whether it can be that of a message with `size` bytes, line end included."""
    return text.isdigit() and len(text) <= SIZE_DIGITS_MAX and text[:1] != b"0" and int(text) <= size - 2
