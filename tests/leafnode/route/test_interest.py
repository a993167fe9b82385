"""What a link tells of our interest: little of it, and always exactly enough (property against a model)."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from leafnode.route.interest import Interest
from leafnode.route.subject import matches

SUBJECTS = [b"a", b"a.b", b"a.b.c", b"a.c", b"b.b", b"a.*", b"*.b", b"a.>", b"a.b.*", b"*.*", b">", b"$LDS.x"]
LITERALS = [b"a", b"b", b"a.b", b"a.c", b"b.b", b"a.b.c", b"a.b.d", b"c.c.c", b"$LDS.x"]
QUEUES = [b"", b"", b"", b"q", b"r"]
STEPS = st.lists(
    st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(QUEUES), st.booleans(), st.booleans()), max_size=60
)


class OtherEnd:
    """What a server makes of the lines (spec leafnode-protocol section 2)."""

    def __init__(self) -> None:
        self.known: dict[tuple[bytes, bytes], int] = {}

    def hear(self, lines: list[bytes]) -> None:
        for line in lines:
            verb, subject, *more = line.split()
            queue = more[0] if more else b""
            if verb == b"LS+":
                self.known[subject, queue] = int(more[1]) if queue else 1
            else:
                del self.known[subject, queue]  # what was never told is never taken back

    def sends(self, literal: bytes) -> tuple[bool, dict[bytes, int]]:
        return decision(self.known, literal)


def decision(interest: dict[tuple[bytes, bytes], int], literal: bytes) -> tuple[bool, dict[bytes, int]]:
    """Whether a message goes over the link, and the weight of each group there."""
    found = [(queue, count) for (subject, queue), count in interest.items() if matches(subject, literal)]
    groups: Counter[bytes] = Counter()
    for queue, count in found:
        groups[queue] += count
    plain = groups.pop(b"", 0)
    return bool(plain), dict(groups)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_the_other_end_decides_as_if_it_knew_every_subscription(
    steps: list[tuple[bytes, bytes, bool, bool]],
) -> None:
    interest, other, model = Interest(), OtherEnd(), Counter[tuple[bytes, bytes]]()
    for subject, queue, comes, ends_turn in [*steps, (b"z", b"", True, True)]:
        if comes or model[subject, queue]:
            model[subject, queue] += 1 if comes else -1
            interest.change(subject, queue, 1 if comes else -1)
        if ends_turn:
            before = dict(other.known)
            lines = interest.settle()
            other.hear(lines)
            now = {key: count for key, count in model.items() if count}
            assert [other.sends(literal) for literal in LITERALS] == [decision(now, literal) for literal in LITERALS]
            assert _never_blind(before, lines, other)
    assert interest.told_count == len(other.known) <= len({key for key, count in model.items() if count})


def _never_blind(before: dict[tuple[bytes, bytes], int], lines: list[bytes], after: OtherEnd) -> bool:
    """Line by line, nothing that is wanted before and after is unwanted in between."""
    end, steady = OtherEnd(), [text for text in LITERALS if decision(before, text)[0] and after.sends(text)[0]]
    end.known = before
    for line in lines:
        end.hear([line])
        if not all(end.sends(text)[0] for text in steady):
            return False
    return True


def test_a_wildcard_stands_for_what_it_covers_until_it_goes() -> None:
    interest = Interest()
    interest.change(b"tele.>", b"", 1)
    for n in range(1000):
        interest.change(b"tele.%d" % n, b"", 1)
    interest.change(b"tele.7", b"group", 2)
    assert interest.settle() == [b"LS+ tele.>\r\n", b"LS+ tele.7 group 2\r\n"]
    for n in range(2, 1000):
        interest.change(b"tele.%d" % n, b"", -1)
    assert interest.settle() == []
    interest.change(b"tele.>", b"", -1)
    assert sorted(interest.settle()) == [b"LS+ tele.0\r\n", b"LS+ tele.1\r\n", b"LS- tele.>\r\n"]


def test_what_came_and_went_in_one_turn_is_not_told() -> None:
    interest = Interest()
    interest.change(b"_INBOX.1", b"", 1)
    interest.change(b"_INBOX.1", b"", -1)
    assert interest.settle() == []


def test_what_servers_look_for_by_name_is_told_whatever_covers_it() -> None:
    interest = Interest()
    interest.change(b">", b"", 1)
    interest.change(b"$LDS.other", b"", 1)
    interest.change(b"$JS.hub.API.CONSUMER.>", b"", 1)
    assert {b"LS+ $LDS.other\r\n", b"LS+ $JS.hub.API.CONSUMER.>\r\n"} < set(interest.settle())
