"""All lanes of one forward: which message goes next, and what is to be remembered.

The shell feeds it (`supply`, `answer`, `link_up`, `link_down`, `on_time`) and takes from it: messages for the link
(`take`) and rows for the store (`take_rows`).
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from leafnode.forward.lane import Entry, Lane
from leafnode.forward.memory import Memory
from leafnode.forward.plan import Forward
from leafnode.route.message import Message
from leafnode.stream.stored import Stored

TURN_MESSAGES = 128  # given to the link in one go: others' turn comes within milliseconds
TURN_BYTES = 256 * 1024


class Flow:
    """One forward."""

    def __init__(
        self,
        forward: Forward,
        rows: Mapping[str, bytes],
        *,
        instance: str,
        server: str,
        inbox: str,
        new_id: Callable[[], str],
    ) -> None:
        """`rows`: what `take_rows` gave before. Answers are expected at `inbox`.LANE.TOKEN."""
        self.forward = forward
        self.changed = False
        self.urgent = False
        """Something must be stored before the hub is told."""
        self._transforms = forward.transforms()
        self.lanes: list[Lane] = []
        for number in range(forward.partitions):
            name = str(number)
            row = rows.get(f"lane.{name}")
            self.lanes.append(
                Lane(
                    forward,
                    name,
                    Memory.from_bytes(row) if row else Memory(),
                    instance=instance,
                    server=server,
                    inbox=f"{inbox}.{number}",
                    new_id=new_id,
                    keep=self._keep_now,
                    settled=self._on_settled,
                )
            )

    def _keep_now(self) -> None:
        self.changed = self.urgent = True

    def _on_settled(self, entry: Entry) -> None:
        self.changed = True

    # the stream --------------------------------------------------------------------------------------------------

    def attach(self, created: int, first: int) -> None:
        """The local stream; `first`: where a lane without a position begins, after the start policy."""
        for lane in self.lanes:
            if lane.memory.created != created:
                lane.begin_stream(created, first)
                self._keep_now()

    def needs_start(self, created: int) -> bool:
        return any(lane.memory.created != created for lane in self.lanes)

    def supply(self, lane: Lane, messages: Sequence[Stored], scanned_to: int) -> None:
        """Messages that were read for a lane."""
        entries = [
            Entry(stored, self.destination(stored.subject))
            for stored in messages
            if self.forward.wants(stored.subject) and self.lanes[self.forward.partition(stored.subject)] is lane
        ]
        lane.supply(entries, scanned_to)
        self.changed = True

    def destination(self, subject: bytes) -> bytes:
        """The subject at the hub."""
        for transform in self._transforms:
            moved = transform.apply(subject)
            if moved is not None:
                return moved
        return subject

    # the link ----------------------------------------------------------------------------------------------------

    def link_up(self, now_ns: int, max_payload: int) -> None:
        for lane in self.lanes:
            lane.max_payload = max_payload
            lane.link_up(now_ns)

    def link_down(self) -> None:
        for lane in self.lanes:
            lane.link_down()

    def answer(self, rest: bytes, message: Message, now_ns: int) -> None:
        """Something came for `LANE.TOKEN`."""
        number, _, token = rest.partition(b".")
        if number.isdigit() and token.isdigit() and int(number) < len(self.lanes):
            self.lanes[int(number)].answer(int(token), message, now_ns)

    def take(self, now_ns: int) -> Iterator[tuple[Lane, Message]]:
        """What may go over the link now, up to a turn's worth."""
        messages = size = 0
        for lane in self.lanes:
            while lane.out:
                yield lane, lane.out.popleft()
        going = list(self.lanes)
        while going and messages < TURN_MESSAGES and size < TURN_BYTES:
            for lane in list(going):
                next_size = lane.next_size(now_ns)
                if next_size is None:
                    going.remove(lane)
                    continue
                message = lane.send_next(now_ns)
                if message is not None:
                    messages += 1
                    size += next_size
                    yield lane, message

    @property
    def has_more(self) -> bool:
        """`take` stopped because its turn was over."""
        return any(lane.out for lane in self.lanes)

    # time and memory ---------------------------------------------------------------------------------------------

    def next_deadline_ns(self) -> int | None:
        return min((when for lane in self.lanes if (when := lane.next_deadline_ns()) is not None), default=None)

    def on_time(self, now_ns: int) -> None:
        for lane in self.lanes:
            lane.on_time(now_ns)

    def take_rows(self) -> dict[str, bytes]:
        """What changed since the last call, to be kept in one commit."""
        if not self.changed:
            return {}
        self.changed = self.urgent = False
        return {f"lane.{lane.name}": lane.checkpoint().to_bytes() for lane in self.lanes}

    def rewind(self, rows: Mapping[str, bytes], now_ns: int) -> None:
        """A commit failed: go on from the rows that are on the disk."""
        for lane in self.lanes:
            row = rows.get(f"lane.{lane.name}")
            lane.rewind(Memory.from_bytes(row) if row else dataclasses.replace(Memory()), now_ns)
