"""An account: one isolated subject space, its subscriptions, and who gets each message.

`publish` is the complete way. For subjects that come again and again a `Route` remembers the result: which client
subscriptions get a copy and with which prepared heads. Routes, and whatever was built on them (`leafnode.route.known`),
are forgotten the moment interest changes: whoever looks one up may use it until the next operation.

Rules of delivery (spec client-protocol section 6, leafnode-protocol section 2):
- every plain subscription gets a copy, one member of each queue group gets one;
- members connected here are preferred to members behind links; among links the weight of their interest decides;
- a link gets a message once, with the names of the groups that it shall serve; never the link it came from, nor
  another link to the same remote cluster.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from leafnode.route.known import Known, Remembered, Route, route_of_stem, route_of_subject
from leafnode.route.limits import Limits
from leafnode.route.mapping import Mapping, Mappings
from leafnode.route.message import Message, Sink, Subscription
from leafnode.route.subject import RESERVED_SUBJECTS, is_literal, literal_start, matches
from leafnode.route.sublist import Sublist

ROUTES_MAX = 8192  # subjects remembered per account; about 0.5 KB each
STEMS_MAX = 1024  # and stems of subjects
FEW_ROUTES = 512  # so many are looked through when a wildcard comes or goes; more are forgotten together
ACK_PREFIX = b"$JS.ACK."  # acknowledgements: each comes once, on a subject of its own
ACK_NUMBERS = 5  # tokens at the end of one that say which delivery is meant
NO_QUEUES: tuple[bytes, ...] = ()


class Link(Sink, Protocol):
    """A sink that is another server."""

    remote_cluster: str
    is_hub: bool  # we are the hub of this link

    def forward(self, message: Message, to: bytes, queues: Sequence[bytes], *, plain: bool) -> bool:
        """Send one message over the link; `queues` are the groups its other end must serve."""
        ...


class Matched(NamedTuple):
    """Who is interested in one subject, sorted by how they are served."""

    plain: tuple[Subscription, ...]  # connected here: each gets a copy
    links: tuple[Link, ...]  # other servers with plain interest
    queues: tuple[tuple[Subscription, ...], ...]  # one group each
    route: Route


class Account:
    """One subject space. Knows subscriptions; knows neither sockets nor streams."""

    def __init__(self, name: str, choose: Callable[[int], int]) -> None:
        """`choose(n)` gives a random number below n."""
        self.name = name
        self.subscriptions = Sublist()
        self.routes: Remembered[bytes, Matched] = Remembered(ROUTES_MAX)
        self.interest_listeners: list[Callable[[Subscription, bool], None]] = []
        self.mappings: Mappings | None = None
        self.is_bridged = False  # imports services: whoever publishes says who it is, in `asker`
        self.takes_in = False  # an imported stream's message is being delivered: it does not go on to a third account
        self.asker: Callable[[bool], dict[str, object]] | None = None
        self.limits = Limits()
        self.connections = 0  # clients
        self.leafnodes = 0  # links that others dialled
        self._stems: Remembered[bytes, Route | None] = Remembered(STEMS_MAX)
        self._ack_stems: Remembered[bytes, Matched | None] = Remembered(STEMS_MAX)
        self._known: dict[tuple[int, bool], Known] = {}
        self._choose = choose

    # interest ----------------------------------------------------------------------------------------------------

    def subscribe(self, sub: Subscription) -> None:
        self.subscriptions.insert(sub)
        self.forget_routes(sub.subject)
        for listener in self.interest_listeners:
            listener(sub, True)

    def unsubscribe(self, sub: Subscription) -> None:
        sub.active = False
        if self.subscriptions.remove(sub):
            self.forget_routes(sub.subject)
            for listener in self.interest_listeners:
                listener(sub, False)

    def forget_routes(self, pattern: bytes) -> None:
        """Interest in the subjects of a pattern has changed."""
        if is_literal(pattern):
            changed = self.routes.pop(pattern, None)
            if changed is not None and changed.route.prepared:
                self._forget_lines()
            return
        self._stems.clear()
        self._ack_stems.clear()
        if len(self.routes) > FEW_ROUTES:
            self.forget_all_routes()
            return
        start = literal_start(pattern)
        concerned = [s for s in self.routes if s.startswith(start) and matches(pattern, s)]
        prepared = [self.routes.pop(subject).route.prepared for subject in concerned]
        if any(prepared):
            self._forget_lines()

    def forget_all_routes(self) -> None:
        self.routes.clear()
        self._stems.clear()
        self._ack_stems.clear()
        self._forget_lines()

    def _forget_lines(self) -> None:
        for known in self._known.values():
            known.lines.clear()

    def known(self, max_payload: int, *, takes_headers: bool) -> Known:
        """What publishers under these rules share."""
        rules = (max_payload, takes_headers)
        found = self._known.get(rules)
        if found is None:
            found = self._known[rules] = Known(max_payload, takes_headers=takes_headers)
        return found

    def has_interest(self, subject: bytes, queue: bytes = b"") -> bool:
        """Whether somebody would get a message on a literal subject: a plain subscription, or, when a queue is
        named, a member of that group."""
        matched = self.match(subject)
        if queue:
            return any(group[0].queue == queue for group in matched.queues)
        return bool(matched.plain or matched.links)

    # delivery ----------------------------------------------------------------------------------------------------

    def match(self, subject: bytes) -> Matched:
        known = self.routes.get(subject)
        return known if known is not None else self._resolve(subject)

    def _resolve(self, subject: bytes) -> Matched:
        if subject.startswith(ACK_PREFIX) and subject not in self.subscriptions.literal:
            found = self._of_ack(subject)
            if found is not None:
                return found
        matched = self._sorted(subject, self.subscriptions.match(subject))
        if self._has_room():
            self.routes[subject] = matched
        return matched

    def _of_ack(self, subject: bytes) -> Matched | None:
        """Who takes the acknowledgements of one consumer; None if that depends on the numbers at their end."""
        stem = subject.rsplit(b".", ACK_NUMBERS)[0] + b"."
        if stem in self._ack_stems:
            return self._ack_stems[stem]
        subs = self.subscriptions.match_below(stem, ACK_NUMBERS)
        found = self._sorted(stem, subs) if subs is not None and self._is_free(subject) else None
        self._ack_stems.admit(stem, found)
        return found

    def _sorted(self, subject: bytes, subs: Iterable[Subscription]) -> Matched:
        plain: list[Subscription] = []
        links: dict[Link, None] = {}
        groups: dict[bytes, list[Subscription]] = {}
        simple = is_free = self._is_free(subject)
        for sub in subs:
            if sub.queue:
                groups.setdefault(sub.queue, []).append(sub)
            elif sub.sink.is_remote:
                links[sub.sink] = None  # type: ignore[index]
            else:
                plain.append(sub)
                simple = simple and _is_simple(sub)
        alone = is_free and not links and not groups
        queues = tuple(tuple(group) for group in groups.values())
        route = route_of_subject(subject, tuple(plain), simple=simple and alone)
        if alone and len(plain) == 1 and plain[0].is_stream:
            route.stream = plain[0]
        return Matched(route.subs, tuple(links), queues, route)

    def _is_free(self, subject: bytes) -> bool:
        """Whether anybody may publish to it, and it is what is published to that receivers are shown."""
        if subject.startswith(RESERVED_SUBJECTS):
            return False
        return self.mappings is None or not self.mappings.concerns(subject)

    def _has_room(self) -> bool:
        """For one more route. When there was none for long, everything is forgotten: that makes some."""
        if len(self.routes) >= ROUTES_MAX:
            if not self.routes.is_outdated():
                return False
            self.forget_all_routes()
        return True

    def route(self, subject: bytes) -> Route | None:
        """Of a subject that is remembered or can be; None: `stem_route` or `plain_clients` may help."""
        known = self.routes.get(subject)
        if known is None:
            if not self._has_room():
                return None
            known = self._resolve(subject)
        return known.route

    def stem_route(self, stem: bytes) -> Route | None:
        """Of every subject that has one token more than a stem (which ends with its dot), unless somebody subscribed
        to that very subject; None if they do not all go to the same client subscriptions, or need the complete way.
        """
        if stem in self._stems:
            return self._stems[stem]
        route: Route | None = None
        if not stem.startswith(RESERVED_SUBJECTS) and (self.mappings is None or not self.mappings.concerns_below(stem)):
            subs = self.subscriptions.match_below(stem)
            if subs is not None and all(_is_simple(sub) for sub in subs):
                route = route_of_stem(tuple(subs))
        self._stems.admit(stem, route)
        return route

    def plain_clients(self, subject: bytes) -> list[Subscription] | None:
        """Who gets a message of a subject that is not remembered, if they are plain client subscriptions only."""
        if not self._is_free(subject):
            return None
        subs = self.subscriptions.match(subject)
        return subs if all(_is_simple(sub) for sub in subs) else None

    def publish(
        self,
        message: Message,
        *,
        origin: Sink | None = None,
        to: bytes = b"",
        only_queues: Sequence[bytes] | None = None,
        echo: bool = True,
    ) -> int:
        """Deliver to everyone interested in `to`, by default the message's subject; returns how many took it.

        Receivers are shown `message.subject`: a consumer's delivery is matched on its deliver subject or inbox.
        `only_queues`: what came over a link reaches these groups and no others. `echo` False: not to the origin.
        """
        to = to or message.subject
        plain, links, queues, _ = self.routes.get(to) or self._resolve(to)
        reached = 0
        for sub in plain:
            if (echo or sub.sink is not origin) and sub.sink.deliver(sub, message, to):
                reached += 1
        if queues:
            served = self._serve_queues(queues, message, origin, to, only_queues, echo=echo)
            reached += served.local
            if links or served.links:
                return reached + self._forward(links, served.links, message, origin, to)
        elif links:
            return reached + self._forward(links, {}, message, origin, to)
        return reached

    def answer(self, answers: Iterable[tuple[bytes, bytes]]) -> None:
        """Publish many short answers (reply subject, payload): what `publish` does with each, at a fraction of the
        price where the one who asked is a client, on an inbox of its own or one for each question.
        """
        touched: list[Route] = []
        for reply, payload in answers:
            known = self.routes.get(reply)
            route = known.route if known is not None else self._stem_of_answer(reply)
            if route is None or not route.targets:
                self.publish(Message(reply, b"", b"", payload))
                continue
            rest = b"%d\r\n%b\r\n" % (len(payload), payload)
            for append, head in route.targets:
                append(b"%b%b" % (head, rest) if known is not None else b"MSG %b%b%b" % (reply, head, rest))
            if not route.messages:
                touched.append(route)
            route.messages += 1
            route.size += len(payload)
        for route in touched:
            for sink in route.count():
                sink.wake()

    def _stem_of_answer(self, reply: bytes) -> Route | None:
        """The way of a subject that is not worth being remembered."""
        if reply in self.subscriptions.literal:
            return None
        return self.stem_route(reply[: reply.rfind(b".") + 1])

    def publish_to_group(self, message: Message, to: bytes, queue: bytes) -> int:
        """Deliver to one member of one queue group and to nobody else; returns 1 if one took it."""
        groups = tuple(group for group in self.match(to).queues if group[0].queue == queue)
        served = self._serve_queues(groups, message, None, to, None, echo=True)
        return served.local + self._forward((), served.links, message, None, to)

    def _serve_queues(
        self,
        queues: tuple[tuple[Subscription, ...], ...],
        message: Message,
        origin: Sink | None,
        to: bytes,
        only: Sequence[bytes] | None,
        *,
        echo: bool,
    ) -> "_Served":
        served = _Served(0, {})
        for group in queues:
            if only is not None and group[0].queue not in only:
                continue
            members = [sub for sub in group if not sub.sink.is_remote and (echo or sub.sink is not origin)]
            if members:
                served = _Served(served.local + self._hand_to_one(members, message, to), served.links)
                continue
            link = self._choose_link(group, origin)
            if link is not None:
                served.links.setdefault(link, []).append(group[0].queue)
        return served

    def _hand_to_one(self, members: list[Subscription], message: Message, to: bytes) -> int:
        first = self._choose(len(members)) if len(members) > 1 else 0
        for turn in range(len(members)):  # a member that refuses (gone, denied) passes it on
            sub = members[(first + turn) % len(members)]
            if sub.active and sub.sink.deliver(sub, message, to):
                return 1
        return 0

    def _choose_link(self, group: tuple[Subscription, ...], origin: Sink | None) -> Link | None:
        links = [sub for sub in group if sub.sink.is_remote and _may_go(sub.sink, origin)]
        if not links:
            return None
        pick = self._choose(sum(sub.weight for sub in links))
        for sub in links:
            pick -= sub.weight
            if pick < 0:
                return sub.sink  # type: ignore[return-value]
        return None

    def _forward(
        self,
        plain: tuple[Link, ...],
        queued: dict[Link, list[bytes]],
        message: Message,
        origin: Sink | None,
        to: bytes,
    ) -> int:
        reached = 0
        for link in plain:
            if _may_go(link, origin):
                reached += link.forward(message, to, queued.pop(link, NO_QUEUES), plain=True)
        for link, names in queued.items():
            reached += link.forward(message, to, names, plain=False)
        return reached

    def map(self, mappings: Iterable[Mapping]) -> None:
        """Add subject mappings, after those that are there."""
        known = self.mappings.all if self.mappings is not None else ()
        self.set_mappings((*known, *mappings))

    def set_mappings(self, mappings: Iterable[Mapping]) -> None:
        """These and no others."""
        wanted = tuple(mappings)
        self.mappings = Mappings(wanted) if wanted else None
        self.forget_all_routes()


class _Served(NamedTuple):
    local: int
    links: dict[Link, list[bytes]]


def _is_simple(sub: Subscription) -> bool:
    """A client gets every message of it, and nothing has to be asked or counted down."""
    return sub.is_client and not (sub.queue or sub.max or sub.filtered)


def _may_go(link: Sink, origin: Sink | None) -> bool:
    """Never back where it came from, nor into the same remote cluster over another link, nor from hub to hub."""
    if origin is None or not origin.is_remote:
        return True
    source: Link = origin  # type: ignore[assignment]
    target: Link = link  # type: ignore[assignment]
    if target is source or not (source.is_hub or target.is_hub):
        return False
    return not source.remote_cluster or target.remote_cluster != source.remote_cluster
