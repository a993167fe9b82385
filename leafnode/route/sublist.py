"""Who is interested in a subject: an index over subscriptions.

Subscriptions without wildcards (nearly all: inboxes, services, keys) sit in a dict by subject. Those with wildcards
sit in a tree, one level a token, with `*` and `>` as branches of their own. A match is one look into the dict plus,
only if there are wildcards at all, a walk over the tree. Matches are remembered by the account's routes
(`leafnode.route.account`), not here.

Law (a property test): `match(s)` is exactly the subscriptions whose pattern matches `s`, after any insertions and
removals.
"""

from leafnode.route.message import Subscription
from leafnode.route.subject import is_literal


class _Node:
    __slots__ = ("branches", "rest", "subs")

    def __init__(self) -> None:
        self.branches: dict[bytes, _Node] = {}
        self.subs: dict[Subscription, None] = {}  # patterns that end here
        self.rest: dict[Subscription, None] = {}  # patterns that go on with `>`

    def is_empty(self) -> bool:
        return not (self.branches or self.subs or self.rest)


def _below(nodes: list[_Node], token: bytes) -> list[_Node]:
    """One level down: what a literal token leads to."""
    deeper: list[_Node] = []
    for node in nodes:
        below = node.branches.get(token)
        if below is not None:
            deeper.append(below)
        if token != b"*":
            below = node.branches.get(b"*")
            if below is not None:
                deeper.append(below)
    return deeper


class Sublist:
    """All subscriptions of one account. `match` and `all` give them in the order in which they were made."""

    def __init__(self) -> None:
        self.literal: dict[bytes, dict[Subscription, None]] = {}  # subject -> its subscriptions without wildcards
        self._root = _Node()
        self._wild = 0
        self.count = 0

    def insert(self, sub: Subscription) -> None:
        if is_literal(sub.subject):
            self.literal.setdefault(sub.subject, {})[sub] = None
        else:
            self._place(sub.subject)[sub] = None
            self._wild += 1
        self.count += 1

    def _place(self, pattern: bytes) -> dict[Subscription, None]:
        node = self._root
        for token in pattern.split(b"."):
            if token == b">":
                return node.rest
            node = node.branches.setdefault(token, _Node())
        return node.subs

    def remove(self, sub: Subscription) -> bool:
        """Forget one subscription; False if it was not there."""
        if is_literal(sub.subject):
            subs = self.literal.get(sub.subject)
            if subs is None or sub not in subs:
                return False
            del subs[sub]
            if not subs:
                del self.literal[sub.subject]
        elif self._remove_wild(sub):
            self._wild -= 1
        else:
            return False
        self.count -= 1
        return True

    def _remove_wild(self, sub: Subscription) -> bool:
        path: list[tuple[_Node, bytes]] = []
        node = self._root
        place = node.rest
        for token in sub.subject.split(b"."):
            if token == b">":
                place = node.rest
                break
            below = node.branches.get(token)
            if below is None:
                return False
            path.append((node, token))
            node = below
            place = node.subs
        if sub not in place:
            return False
        del place[sub]
        for above, token in reversed(path):  # prune what became empty
            if not above.branches[token].is_empty():
                break
            del above.branches[token]
        return True

    def match(self, subject: bytes) -> list[Subscription]:
        """Every subscription whose pattern covers the subject. Wildcards in `subject` are ordinary tokens."""
        exact = self.literal.get(subject)
        found = list(exact) if exact else []
        if self._wild:
            nodes = [self._root]
            for token in subject.split(b"."):
                for node in nodes:
                    if node.rest:
                        found.extend(node.rest)
                nodes = _below(nodes, token)
                if not nodes:
                    break
            for node in nodes:
                if node.subs:
                    found.extend(node.subs)
        return found

    def match_below(self, stem: bytes, more: int = 1) -> list[Subscription] | None:
        """Every wildcard subscription that covers the subjects of so many tokens more than a stem (which ends with its
        dot), whatever these are; None if it depends on them. Subscriptions in `literal` come on top."""
        found: list[Subscription] = []
        nodes = [self._root]
        for token in stem.split(b".")[:-1]:
            for node in nodes:
                found.extend(node.rest)
            nodes = _below(nodes, token)
        for left in range(more - 1, -1, -1):
            deeper: list[_Node] = []
            for node in nodes:
                found.extend(node.rest)
                for token, below in node.branches.items():
                    if not left and not below.subs:
                        continue  # it only leads on
                    if token != b"*":
                        return None
                    deeper.append(below)
            nodes = deeper
        for node in nodes:
            found.extend(node.subs)
        return found

    def all(self) -> list[Subscription]:
        """A copy of every subscription, for bursts of interest and for monitoring."""
        found = [sub for subs in self.literal.values() for sub in subs]
        nodes = [self._root]
        while nodes:
            node = nodes.pop()
            found.extend(node.subs)
            found.extend(node.rest)
            nodes.extend(node.branches.values())
        return found
