"""Where a new consumer starts (spec jetstream-api section 7).

Called when everything published before the request is committed, so that "last" and "new" mean what the asker saw.
"""

from collections.abc import Callable

from leafnode.stream import reads
from leafnode.stream.consumer import Consumer

Done = Callable[[Consumer], None]


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
    elif policy == "last":
        subjects = contents.matching_any(config.filters) if config.filters else None
        newest = last if subjects is None else max((subject.last_seq for subject in subjects), default=0)
        at(max(newest, first) if contents.messages else last + 1)
    elif policy == "last_per_subject":
        newest_ones = contents.matching_any(config.filters or [b">"])
        consumer.begin_selected([subject.last_seq for subject in newest_ones if subject.last_seq])
        done(consumer)
    elif policy == "by_start_sequence":
        at(max(config.opt_start_seq, first))
    elif policy == "by_start_time":
        stream.around.reads.ask(reads.FirstAt(stream.id, config.opt_start_time, lambda seq: at(seq or last + 1)))
    else:
        at(first)
