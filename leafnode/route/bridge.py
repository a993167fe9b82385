"""What crosses from account to account: imported streams, imported services, and the services' answers.

    exporter A                                     importer B
    pub.x     --[StreamImport in A]-------------->  b.pub.x      as far as B has subscriptions for it
    svc       <-[ServiceImport in B]--------------  my.req       reply `_INBOX.1`
      reply `_R_.<A's>.<one's own>`
    _R_.….…   --[Replies in A]------------------->  _INBOX.1

Each is a sink in one account that publishes to the other, so that queues, links, permissions and "no responders" follow
from delivery as it is. A stream's interest is that of the importer, translated: nothing crosses that nobody wants, and
a queue group is one group over both accounts. Imports do not chain for streams; for services they do, and whoever asked
first is named. Source: spec auth section 2, leafnode-protocol section 7.
"""

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from leafnode.route.account import Account
from leafnode.route.mapping import DROPPED
from leafnode.route.message import Message, Subscription
from leafnode.route.passage import Passage
from leafnode.wire import headers

OPEN_MAX = 65536  # requests of one account's services that wait for answers; about 0.4 KB each, the oldest give way
REPLY_PREFIX = b"_R_."
ACK_PREFIX = b"$JS.ACK."  # kept as it is: an acknowledgement names its stream itself
INFO_HEADER = b"Nats-Request-Info"


class StreamImport:
    """Sits in the exporter's account for the importer's subscriptions."""

    is_remote = False

    def __init__(self, exporter: Account, importer: Account, passage: Passage) -> None:
        self.exporter = exporter
        self.importer = importer
        self._passage = passage
        self._demand: dict[tuple[bytes, bytes], _Demand] = {}  # by (exporter's pattern, queue)
        self._last: Message | None = None
        self._busy = False
        for sub in importer.subscriptions.all():
            self._interest_changed(sub, True)
        importer.interest_listeners.append(self._interest_changed)

    def close(self) -> None:
        self.importer.interest_listeners.remove(self._interest_changed)
        for demand in self._demand.values():
            self.exporter.unsubscribe(demand.sub)
        self._demand.clear()

    def _interest_changed(self, sub: Subscription, added: bool) -> None:
        if isinstance(sub.sink, StreamImport):
            return
        wanted = self._passage.wanted(sub.subject)
        if wanted is None:
            return
        key = (wanted, sub.queue)
        demand = self._demand.get(key)
        if added and demand is None:
            demand = self._demand[key] = _Demand(Subscription(wanted, self, sub.queue))
            self.exporter.subscribe(demand.sub)
        elif demand is not None:
            demand.others += 1 if added else -1
            if demand.others < 0:
                del self._demand[key]
                self.exporter.unsubscribe(demand.sub)

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """Pass it on; a message that several of our subscriptions match crosses once."""
        if self._busy or self.exporter.takes_in or (not sub.queue and message is self._last):
            return False
        here = self._passage.to_local(to)
        if here is None:
            return False
        shown = here if message.subject == to else message.subject
        carried = message._replace(subject=shown)
        self._busy = self.importer.takes_in = True
        try:
            if sub.queue:
                return self.importer.publish_to_group(carried, here, sub.queue) > 0
            self._last = message if len(self._demand) > 1 else None
            return self.importer.publish(carried, to=here, only_queues=()) > 0
        finally:
            self._busy = self.importer.takes_in = False


class _Demand:
    """One subscription at the exporter, and how many more want it than the first."""

    __slots__ = ("others", "sub")

    def __init__(self, sub: Subscription) -> None:
        self.sub = sub
        self.others = 0


class _Lent(NamedTuple):
    """A reply subject of one account that stands for another's."""

    account: Account
    reply: bytes
    is_single: bool
    ttl_ns: int
    deadline_ns: int


class Replies:
    """Lends reply subjects to those who ask an account's services, and takes the answers back to them."""

    is_remote = False

    def __init__(self, account: Account, new_id: Callable[[], bytes], now_ns: Callable[[], int]) -> None:
        """`new_id()` gives a few random letters and digits."""
        self.account = account
        self._new_id = new_id
        self._now_ns = now_ns
        self._prefix = b"%b%b." % (REPLY_PREFIX, new_id())
        self._sub: Subscription | None = None
        self._open: OrderedDict[bytes, _Lent] = OrderedDict()
        self.back: dict[Account, Replies] = {}
        """Where answers that want an answer themselves borrow theirs: the importers' own."""

    def lend(self, account: Account, reply: bytes, *, is_single: bool, ttl_ns: int) -> bytes:
        """A subject here that leads to `reply` in another account, for one answer or many, for so long."""
        if self._sub is None:
            self._sub = Subscription(self._prefix + b">", self)
            self.account.subscribe(self._sub)
        now_ns = self._now_ns()
        while self._open:
            subject, oldest = next(iter(self._open.items()))
            if oldest.deadline_ns > now_ns and len(self._open) < OPEN_MAX:
                break
            del self._open[subject]
        lent = self._prefix + self._new_id()
        while lent in self._open:
            lent = self._prefix + self._new_id()
        self._open[lent] = _Lent(account, reply, is_single, ttl_ns, now_ns + ttl_ns)
        return lent

    def forget(self, lent: bytes) -> None:
        self._open.pop(lent, None)

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """One answer. The last is the only one of a single-answer service, an empty one, or one that nobody awaits."""
        lent = self._open.get(to)
        now_ns = self._now_ns()
        if lent is None or now_ns > lent.deadline_ns:
            self._open.pop(to, None)
            return False
        if lent.is_single or not (message.headers or message.payload):
            del self._open[to]
        else:
            self._open[to] = lent._replace(deadline_ns=now_ns + lent.ttl_ns)
            self._open.move_to_end(to)
        reply = message.reply
        back = self.back.get(lent.account)
        if reply and not reply.startswith(ACK_PREFIX) and back is not None:
            reply = back.lend(self.account, reply, is_single=True, ttl_ns=lent.ttl_ns)
        shown = lent.reply if message.subject == to else message.subject
        reached = lent.account.publish(message._replace(subject=shown, reply=reply), to=lent.reply)
        if not reached:
            self._open.pop(to, None)
        return reached > 0


class ServiceImport:
    """Sits in the importer's account in the service's place."""

    is_remote = False

    def __init__(
        self,
        exporter: Account,
        importer: Account,
        passage: Passage,
        replies: Replies,
        *,
        is_single: bool = True,
        ttl_ns: int,
        share: bool = False,
    ) -> None:
        """`replies`: the exporter's. `share`: the exporter is told all about who asks."""
        self.exporter = exporter
        self.importer = importer
        self._passage = passage
        self._replies = replies
        self._is_single = is_single
        self._ttl_ns = ttl_ns
        self._share = share
        self._busy = False
        self._sub = Subscription(passage.local, self)
        importer.is_bridged = True
        importer.subscribe(self._sub)

    def close(self) -> None:
        self.importer.unsubscribe(self._sub)

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """Ask the service; False if it is not there, which makes "no responders" of it."""
        there = self._passage.to_exported(to)
        exporter = self.exporter
        if there is not None and exporter.mappings is not None:
            there = exporter.mappings.apply(there)
        if self._busy or not there or there == DROPPED:
            return False
        _, reply, block, payload = message
        lent = b""
        if reply and not reply.startswith(ACK_PREFIX):
            reply = lent = self._replies.lend(self.importer, reply, is_single=self._is_single, ttl_ns=self._ttl_ns)
        asker = self.importer.asker
        info: dict[str, object] = asker(self._share) if asker is not None else {"acc": self.importer.name}
        block = headers.with_lines(
            headers.without(block, INFO_HEADER), (INFO_HEADER, json.dumps(info, separators=(",", ":")).encode())
        )
        before, exporter.asker = exporter.asker, _on_behalf_of(info, exporter.name)
        self._busy = True
        try:
            reached = exporter.publish(Message(there, reply, block, payload))
        finally:
            self._busy = False
            exporter.asker = before
        if not reached and lent:
            self._replies.forget(lent)
        return reached > 0


def _on_behalf_of(info: dict[str, object], service: str) -> Callable[[bool], dict[str, object]]:
    """Who asks when an account passes a request on that it got itself."""
    named = {"acc": info["acc"], "svc": service, **{key: value for key, value in info.items() if key != "acc"}}
    return lambda share: named
