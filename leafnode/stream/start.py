"""Where a new consumer starts (spec jetstream-api section 7).

Called when everything published before the request is committed, so that "last" and "new" mean what the asker saw.
"""

from collections.abc import Callable

from leafnode.stream import reads
from leafnode.stream.consumer import Consumer
from leafnode.stream.stream import Stream

Done = Callable[[Consumer], None]


def _newest(
    stream: Stream, filters: list[bytes], then: Callable[[list[int]], None], tried: frozenset[int] = frozenset()
) -> None:
    """Call with the newest sequence of each subject; those that are not known are looked up first, each once."""
    subjects = stream.contents.matching_any(filters)
    unknown = [subject for subject in subjects if not subject.last_seq and subject.id not in tried]
    if unknown:
        subject = unknown[0]
        stream.recall.look_up_last(subject, lambda: _newest(stream, filters, then, tried | {subject.id}))
    else:
        then([subject.last_seq for subject in subjects if subject.last_seq])


def start(consumer: Consumer, done: Done) -> None:
    """Put a new consumer at its place and count what is before it; then call `done`."""
    stream, config = consumer.stream, consumer.config
    contents = stream.contents
    first, last = contents.first_seq, contents.last_seq
    policy = config.deliver_policy

    def at(seq: int) -> None:
        consumer.begin(seq, lambda: done(consumer))

    if policy == "new":
        at(last + 1)
    elif policy == "last" and not config.filters:
        at(max(last, first))
    elif policy == "last":
        _newest(stream, config.filters, lambda found: at(max(found, default=first)))
    elif policy == "last_per_subject":

        def selected(found: list[int]) -> None:
            consumer.begin_selected(found)
            done(consumer)

        _newest(stream, config.filters or [b">"], selected)
    elif policy == "by_start_sequence":
        at(max(config.opt_start_seq, first))
    elif policy == "by_start_time":
        stream.around.reads.ask(reads.FirstAt(stream.id, config.opt_start_time, lambda seq: at(seq or last + 1)))
    else:
        at(first)
