"""The index of subscriptions agrees with the definition of a match, also after removals."""

from hypothesis import given
from hypothesis import strategies as st

from leafnode.route.message import Message, Subscription
from leafnode.route.subject import matches
from leafnode.route.sublist import Sublist
from tests.leafnode.route.test_subject import LITERALS, PATTERNS


class Nobody:
    is_remote = False

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        return True


@given(st.lists(st.tuples(PATTERNS | LITERALS, st.booleans()), max_size=20), LITERALS)
def test_match_is_every_pattern_that_covers_the_subject(made: list[tuple[bytes, bool]], wanted: bytes) -> None:
    index = Sublist()
    kept: list[Subscription] = []
    for pattern, remove_again in made:
        sub = Subscription(pattern, Nobody())
        index.insert(sub)
        if remove_again:
            assert index.remove(sub)
            assert not index.remove(sub)
        else:
            kept.append(sub)
    assert set(index.match(wanted)) == {sub for sub in kept if matches(sub.subject, wanted)}
    assert set(index.all()) == set(kept)
    assert index.count == len(kept)


@given(
    st.lists(PATTERNS, max_size=12), LITERALS, st.lists(st.sampled_from([b"a", b"b", b"zz"]), min_size=1, max_size=3)
)
def test_what_covers_everything_below_a_stem(patterns: list[bytes], stem: bytes, tokens: list[bytes]) -> None:
    """If it does not depend on the tokens that follow, it is what covers the subject; literals come on top."""
    index = Sublist()
    for pattern in patterns:
        index.insert(Subscription(pattern, Nobody()))
    below = index.match_below(stem + b".", len(tokens))
    if below is not None:
        subject = stem + b"." + b".".join(tokens)
        literal = index.literal.get(subject, {})
        assert set(below) == {sub for sub in index.match(subject) if sub not in literal}


def test_removing_everything_leaves_nothing_behind() -> None:
    index = Sublist()
    subs = [Subscription(p, Nobody()) for p in (b"a.*.c", b"a.*.>", b">", b"a.b.c", b"*")]
    for sub in subs:
        index.insert(sub)
    for sub in subs:
        index.remove(sub)
    assert index._root.is_empty()
    assert not index.literal
