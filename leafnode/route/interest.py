"""What the other end of a leaf link must be told about our interest, and no more than that.

Subscriptions are counted by subject and queue group. What differs from what was told is settled once per turn, before
any message goes out, so that a thousand changes are one write and a subscription that came and went is none:

    plain       LS+ when the first comes, LS- when the last goes; nothing while a wildcard that was told covers it
    queue       LS+ with the new total for each change of it, LS- at zero; groups are never covered by wildcards

A wildcard that goes uncovers what was not told because of it; that is told before the wildcard is taken back, so there
is no moment without interest. Law (a property test): after each settling, the subjects and groups for which the other
end would send us a message are exactly those of our subscriptions.
"""

from collections.abc import Iterable

from leafnode.route.message import Message, Subscription
from leafnode.route.subject import is_literal, is_subset
from leafnode.route.sublist import Sublist

Key = tuple[bytes, bytes]
"""A subject and a queue group, empty for plain interest."""
PLAIN = b""
LOOP_PREFIX = b"$LDS."  # subjects by which servers find themselves again: always told by name
API_SUFFIX = (
    b".API.CONSUMER.>"  # by which a JetStream is found: so is this, since who copies from it waits for the name
)


class Interest:
    """Counts of one link's interest, and what of it was told."""

    def __init__(self) -> None:
        self._wanted: dict[Key, int] = {}
        self._told: dict[Key, int] = {}
        self._changed: dict[Key, None] = {}
        self._wildcards = Sublist()  # plain wildcards that were told
        self._marks: dict[bytes, Subscription] = {}  # of them, for taking them out again
        self._covered: dict[bytes, set[bytes]] = {}  # wildcard -> plain subjects untold because of it
        self._cover: dict[bytes, bytes] = {}  # the other way round

    @property
    def is_settled(self) -> bool:
        return not self._changed

    @property
    def told_count(self) -> int:
        """Subjects and groups that the other end knows of."""
        return len(self._told)

    def change(self, subject: bytes, queue: bytes, by: int) -> None:
        """So many more (or, negative, fewer) want it. Fewer than none are none."""
        key = (subject, queue)
        count = self._wanted.get(key, 0) + by
        if count > 0:
            self._wanted[key] = count
        else:
            self._wanted.pop(key, None)
        self._changed[key] = None

    def tell_early(self, subject: bytes) -> bytes:
        """The line for a plain subject that is told before everything else; `settle` says no more of it."""
        self.change(subject, PLAIN, 1)
        self._changed.pop((subject, PLAIN))
        return self._tell((subject, PLAIN), 1)

    def settle(self) -> list[bytes]:
        """Lines that bring the other end up to date: what is new first, then what is no more."""
        changed, self._changed = self._changed, {}
        lines: list[bytes] = []
        gone: list[Key] = []
        rest: list[Key] = []
        for key in changed:
            if key not in self._wanted:
                gone.append(key)
            elif is_literal(key[0]) or key[1]:
                rest.append(key)
            else:
                self._settle_wildcard(key, lines)
        for key in rest:
            self._settle_one(key, lines)
        self._take_back(gone, lines)
        return lines

    def _settle_wildcard(self, key: Key, lines: list[bytes]) -> None:
        if key not in self._told and not self._hide(key[0]):
            lines.append(self._tell(key, 1))

    def _settle_one(self, key: Key, lines: list[bytes]) -> None:
        count = self._wanted[key]
        if key[1]:
            if self._told.get(key) != count:
                lines.append(self._tell(key, count))
        elif key not in self._told and not self._hide(key[0]):
            lines.append(self._tell(key, 1))

    def _take_back(self, gone: Iterable[Key], lines: list[bytes]) -> None:
        """Wildcards that go uncover others, which may be wildcards themselves and cover the next."""
        uncovered: list[bytes] = []
        last: list[bytes] = []
        for key in gone:
            subject, queue = key
            if not queue:
                self._show(subject)
            if self._told.pop(key, None) is None:
                continue
            last.append(b"LS- %b %b\r\n" % key if queue else b"LS- %b\r\n" % subject)
            mark = self._marks.pop(subject, None) if not queue else None
            if mark is not None:
                self._wildcards.remove(mark)
                for hidden in self._covered.pop(subject, ()):
                    del self._cover[hidden]
                    uncovered.append(hidden)
        for subject in sorted(uncovered, key=is_literal):  # wildcards first: they may cover the rest
            key = (subject, PLAIN)
            if key in self._wanted and key not in self._told and not self._hide(subject):
                lines.append(self._tell(key, 1))
        lines += last

    def _tell(self, key: Key, count: int) -> bytes:
        subject, queue = key
        self._told[key] = count
        if queue:
            return b"LS+ %b %b %d\r\n" % (subject, queue, count)
        if not is_literal(subject):
            mark = self._marks[subject] = Subscription(subject, _NOWHERE)
            self._wildcards.insert(mark)
        return b"LS+ %b\r\n" % subject

    def _hide(self, subject: bytes) -> bool:
        """Whether a wildcard that was told makes it unnecessary to tell this; remembered until that one goes."""
        if subject in self._cover:
            return True
        if not self._marks or subject.startswith(LOOP_PREFIX) or subject.endswith(API_SUFFIX):
            return False
        for mark in self._wildcards.match(subject):
            if mark.subject != subject and is_subset(subject, mark.subject):
                self._cover[subject] = mark.subject
                self._covered.setdefault(mark.subject, set()).add(subject)
                return True
        return False

    def _show(self, subject: bytes) -> None:
        """It is wanted no more: nobody needs to cover it."""
        cover = self._cover.pop(subject, None)
        if cover is not None:
            self._covered[cover].discard(subject)


class _Nowhere:
    is_remote = False

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        return False


_NOWHERE = _Nowhere()
