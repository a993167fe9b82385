"""What a stream keeps: limits, roll-ups, and what consumers are done with (spec jetstream-api sections 3 and 8)."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from leafnode.route.subject import is_literal
from leafnode.stream import reads
from leafnode.stream.contents import Subject, Weight
from leafnode.stream.lookups import NeedsLookUp
from leafnode.stream.purge import Purge

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream


class Retention:
    """Removes what one stream must not keep."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream

    # limits ------------------------------------------------------------------------------------------------------

    def enforce(self, entry: Subject | None) -> None:
        """Take away what is over the limits, oldest first."""
        config, contents = self._stream.config, self._stream.contents
        if entry is not None and 0 < config.max_msgs_per_subject < entry.count:
            self._enforce_subject(entry)
        if 0 < config.max_msgs < contents.messages:
            self._drop_oldest(lambda: contents.messages > config.max_msgs)
        if 0 < config.max_bytes < contents.bytes:
            self._drop_oldest(lambda: contents.bytes > config.max_bytes)

    def enforce_all(self, then: Callable[[], None]) -> None:
        """The limits became lower; `then` is called when nothing is over them."""
        stream = self._stream
        self.enforce(None)
        left = 1

        def done(_removed: int = 0, _failure: str = "") -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        limit = stream.config.max_msgs_per_subject
        if limit > 0 and stream.recall.history_known:
            for subject in list(stream.contents.subjects.values()):
                if subject.history is None and subject.count > limit:
                    left += 1
                    self._purge_subject(subject, limit, done)
                else:
                    self.enforce(subject)
        stream.recall.when_history_is_known(done)

    def _enforce_subject(self, entry: Subject) -> None:
        stream = self._stream
        limit = stream.config.max_msgs_per_subject
        if entry.history is None:
            self._purge_subject(entry, limit, lambda _removed, _failure: None)
            return
        if not stream.recall.history_known:
            return  # again when it is
        while entry.history and entry.count > limit:
            stream.remove(entry.history[0][0], entry, entry.history[0][1], "replaced")

    def _purge_subject(self, entry: Subject, keep: int, done: Callable[[int, str], None]) -> None:
        below = self._stream.contents.last_seq + 1
        Purge(self._stream, [entry.name], below=below, keep=keep, done=done).start()

    def _drop_oldest(self, over: Callable[[], bool]) -> None:
        stream = self._stream
        head = stream.contents.head
        while head and over():
            seq, weight = next(iter(head.items()))
            stream.remove(seq, weight.subject, weight.size)
        if stream.contents.wants_head:
            stream.recall.refill_head()

    def check_rolls_up(self, subject: bytes, rollup: bytes) -> None:
        """Before a message that rolls its subject up is kept, at most one other is left of it, so that the rest goes
        in the same commit. Of a subject with wildcards all that it matches is gone before: who is acknowledged sees
        nothing of it any more.

        Raises:
            NeedsLookUp: older ones must go first.
        """
        if rollup == b"sub" and not is_literal(subject):
            self._check_wildcard_rolls_up(subject)
            return
        entry = self._stream.contents.subjects.get(subject)
        if rollup != b"sub" or entry is None or entry.count < 2:
            return
        if entry.history is None or not self._stream.recall.history_known:
            raise NeedsLookUp(lambda again: self._purge_subject(entry, 1, lambda _removed, _failure: again()))
        if not entry.last_seq:
            raise NeedsLookUp(partial(self._stream.recall.look_up_last, entry))

    def _check_wildcard_rolls_up(self, subject: bytes) -> None:
        stream = self._stream
        if any(entry.count for entry in stream.contents.matching(subject)):
            below = stream.contents.last_seq + 1
            raise NeedsLookUp(
                lambda again: Purge(stream, [subject], below=below, done=lambda _removed, _failure: again()).start()
            )

    def roll_up(self, rollup: bytes, entry: Subject, seq: int, replaced: int, replaced_size: int) -> None:
        """Everything before `seq` of the subject goes. `replaced` is the subject's message before it.

        A subject with wildcards (a client may publish to one) rolls up all that it matches, as with nats-server.
        """
        stream = self._stream
        if rollup == b"all":
            return  # it made room before it was kept
        if not is_literal(entry.name):
            return  # what it matches went before it was kept
        if entry.count == 2 and replaced:
            stream.remove(replaced, entry, replaced_size, "replaced")
        elif entry.history and stream.recall.history_known:
            while entry.history[0][0] < seq:
                stream.remove(entry.history[0][0], entry, entry.history[0][1], "replaced")
        elif entry.count > 1:
            Purge(stream, [entry.name], below=seq).start()

    # consumers ---------------------------------------------------------------------------------------------------

    def settled(self, seq: int, weight: Weight | None = None) -> None:
        """Consumers are done with a message of a work queue or an interest stream."""
        stream = self._stream
        if stream.contents.is_gone(seq) or seq > stream.contents.last_seq:
            return
        weight = weight or stream.recall.weight(seq)
        if weight is None:
            stream.recall.weights([seq], lambda found: self._settle_found(seq, found))
            return
        stream.changes().settled.append(seq)
        stream.remove(seq, weight.subject, weight.size, "consumed")

    def _settle_found(self, seq: int, found: dict[int, Weight]) -> None:
        if seq in found and not self._stream.contents.is_gone(seq):
            self.settled(seq, found[seq])

    def drop_unneeded(self, filters: list[bytes]) -> None:
        """Interest retention: a consumer left; what nobody else wants goes."""
        self._stream.around.journal.after(lambda _failure: self._look_for_unneeded(filters, 0))

    def _look_for_unneeded(self, filters: list[bytes], after: int) -> None:
        stream = self._stream
        ids = stream.subject_ids(filters)
        if ids == () or not stream.contents.messages:
            return

        def found(answer: reads.Metas) -> None:
            stream.recall.finished()
            for meta in answer.metas:
                weight = stream.recall.weigh(meta)
                if weight is not None and not stream.is_needed(meta.seq, meta.subject):
                    self.settled(meta.seq, weight)
            if answer.scanned_to < stream.committed and not stream.deleted:
                self._look_for_unneeded(filters, answer.scanned_to)

        stream.recall.started()
        stream.around.reads.ask(reads.Weights(stream.id, after, stream.committed, ids, found))
