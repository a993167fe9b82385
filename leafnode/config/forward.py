"""The `forward` block: which local streams are copied to which hub, and how. Pure."""

import re
from datetime import datetime

from leafnode.config.grammar import Value
from leafnode.config.section import (
    Fields,
    Notes,
    Table,
    choice,
    duration,
    each,
    flag,
    no_negative,
    number,
    positive,
    subjects,
    text,
    texts,
    wrong,
)
from leafnode.forward.plan import (
    DAY_MINUTES,
    DEFAULT_CLASS,
    LOWEST_PRIORITY,
    SECOND,
    Budget,
    Class,
    Destination,
    Forward,
    Hours,
    Rate,
    Sampling,
    Start,
    Watch,
    Window,
)
from leafnode.route.transform import TransformError

PARTITIONS_MAX = 64  # lanes of a class: each has a fence at the hub
CLASSES_MAX = 32  # the same
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOURS = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))?\s+)?([0-2]?\d):([0-5]\d)-([0-2]?\d):([0-5]\d)")


def _name(value: Value, notes: Notes) -> str:
    found = text(value, notes)
    if not _NAME.fullmatch(found):
        raise wrong(value, f"the name {found!r} must be a token of subjects: up to 64 of A-Z a-z 0-9 _ -")
    return found


def _span(value: Value, notes: Notes) -> int:
    return int(duration(value, notes) * SECOND)


def _amount(value: Value, _: Notes) -> float:
    """A number that is not negative."""
    if isinstance(value.data, bool) or not isinstance(value.data, int | float) or value.data < 0:
        raise wrong(value, "must be a number, not negative")
    return float(value.data)


TO = Table(
    "forward.to",
    {"stream": ("stream", _name), "domain": ("domain", _name), "subject": ("subject", text)},
)
WINDOW = Table("forward.window", {"messages": ("messages", positive), "bytes": ("bytes", positive)})
RATE = Table("forward.rate", {"messages": ("messages", _amount), "bytes": ("bytes", _amount)})
SAMPLE = Table(
    "forward.classes[].sample",
    {
        "field": ("field", text),
        "header": ("header", text),
        "token": ("token", number),
        "interval": ("interval_ns", _span),
        "splay": ("splay", _amount),
        "size_change": ("size_change", no_negative),
        "content_change": ("content_change", flag),
        "value": ("value", text),
        "deadband": ("deadband", _amount),
        "force_field": ("force", text),
        "force_header": ("force_header", text),
        "aggregate": ("aggregate_ns", _span),
    },
)
WATCH = Table("forward.classes[].watch", {"timeout": ("timeout_ns", _span), "expire": ("expire_ns", _span)})
BUDGET = Table(
    "forward.classes[].budget",
    {
        "policy": ("policy", choice("keep", "latest", "drop-oldest", "refuse")),
        "bytes": ("bytes", no_negative),
        "headroom": ("headroom", no_negative),
    },
)


def _to(value: Value, notes: Notes) -> Destination:
    fields = TO.read(value, notes)
    for key in ("stream", "domain"):
        if not fields.get(key):
            raise wrong(value, f"'forward.to' needs {key!r}: the hub's {key}")
    return Destination(**fields)


def _window(value: Value, notes: Notes) -> Window:
    return Window(**WINDOW.read(value, notes))


def _rate(value: Value, notes: Notes) -> Rate:
    return Rate(**RATE.read(value, notes))


def _sampling(value: Value, notes: Notes) -> Sampling:
    fields = SAMPLE.read(value, notes)
    if sum(1 for key in ("field", "header", "token") if fields.get(key)) != 1:
        raise wrong(value, "'sample' needs one of 'field', 'header' and 'token': what tells senders apart")
    found = Sampling(**fields)
    if found.token < -1:
        raise wrong(value, "'sample.token' must be a token's place from 1, or -1 for the whole subject")
    if found.value and not (found.deadband or found.aggregate_ns):
        raise wrong(value, "'sample.value' is for 'deadband' and 'aggregate': neither is there")
    if not found.samples and (found.force or found.force_header):
        raise wrong(value, "'sample' forces what nothing holds back: add 'interval' or another rule")
    return found


def _watch(value: Value, notes: Notes) -> Watch:
    return Watch(**WATCH.read(value, notes))


def _budget(value: Value, notes: Notes) -> Budget:
    found = Budget(**BUDGET.read(value, notes))
    if found.policy != "keep" and not (found.bytes or found.headroom):
        raise wrong(value, f"'budget' with policy {found.policy} needs 'bytes' or 'headroom'")
    if found.policy == "keep" and (found.bytes or found.headroom):
        raise wrong(value, "'budget' has a limit, but policy keep drops nothing: choose latest, drop-oldest or refuse")
    return found


def _hours(value: Value, notes: Notes) -> tuple[Hours, ...]:
    return tuple(_part_of_day(value, words) for words in texts(value, notes))


def _part_of_day(value: Value, words: str) -> Hours:
    """`01:00-05:00`, `sat 00:00-24:00`, `mon-fri 22:00-06:00`."""
    match = _HOURS.fullmatch(words.strip().lower())
    if match is None or any(day and day not in DAYS for day in match.group(1, 2)):
        raise wrong(value, f'\'hours\' has {words!r}: write "01:00-05:00" or "mon-fri 22:00-06:00"')
    first, last = (int(match[n]) * 60 + int(match[n + 1]) for n in (3, 5))
    if first >= DAY_MINUTES or last > DAY_MINUTES or first == last:
        raise wrong(value, f"'hours' has {words!r}, which is no part of a day")
    begin = DAYS.index(match[1]) if match[1] else 0
    end = DAYS.index(match[2] or match[1]) if match[1] else 6
    days = frozenset((begin + n) % 7 for n in range((end - begin) % 7 + 1))
    return Hours(first_minute=first, last_minute=last, days=days)


CLASS = Table(
    "forward.classes[]",
    {
        "name": ("name", _name),
        "subjects|filter_subjects|filter_subject": ("subjects", subjects),
        "priority": ("priority", no_negative),
        "live": ("live", choice("in-order", "first")),
        "rate": ("rate", _rate),
        "hours": ("hours", _hours),
        "sample": ("sampling", _sampling),
        "watch": ("watch", _watch),
        "budget": ("budget", _budget),
    },
)


def _class(value: Value, notes: Notes) -> Class:
    fields = CLASS.read(value, notes)
    if not fields.get("name"):
        raise wrong(value, "a class of a forward needs a 'name'")
    fields["live_first"] = fields.pop("live", "in-order") == "first"
    found = Class(**fields)
    if found.priority > LOWEST_PRIORITY:
        raise wrong(value, f"'priority' is from 0, which goes first, to {LOWEST_PRIORITY}")
    if (found.watch.timeout_ns or found.watch.expire_ns) and not (
        found.sampling.field or found.sampling.header or found.sampling.token
    ):
        raise wrong(value, "'watch' needs 'sample' with one of 'field', 'header' and 'token': what tells senders apart")
    return found


def _classes(value: Value, notes: Notes) -> tuple[Class, ...]:
    """The first that takes a message has it; one that takes the rest is added where none does."""
    found: tuple[Class, ...] = each(_class)(value, notes)
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise wrong(value, f"two classes are called {name!r}")
    rest = [one for one in found if not one.subjects]
    if rest and rest != [found[-1]]:
        raise wrong(value, f"class {rest[0].name!r} has no 'subjects' and takes all: put it last")
    if len(found) > CLASSES_MAX:
        raise wrong(value, f"at most {CLASSES_MAX} classes")
    if rest:
        return found
    if DEFAULT_CLASS in names:
        raise wrong(value, f"{DEFAULT_CLASS!r} is what takes the rest: give it no 'subjects', or another name")
    return (*found, Class())


def _start(value: Value, _: Notes) -> Start:
    """`all`, `new`, a sequence, or a time."""
    if isinstance(value.data, int) and not isinstance(value.data, bool) and value.data > 0:
        return Start(policy="sequence", sequence=value.data)
    if value.data in ("all", "new"):
        return Start(policy=str(value.data))
    if not isinstance(value.data, datetime):
        raise wrong(value, "'start' must be all, new, a sequence from 1, or a time such as 2026-11-20T00:00:00Z")
    return Start(policy="time", time_ns=int(value.data.timestamp() * SECOND))


FORWARD = Table(
    "forward",
    {
        "name": ("name", _name),
        "stream": ("stream", _name),
        "account": ("account", text),
        "subjects|filter_subjects|filter_subject": ("filters", subjects),
        "to": ("to", _to),
        "classes": ("classes", _classes),
        "window": ("window", _window),
        "rate": ("rate", _rate),
        "mode": ("mode", choice("ordered", "parallel")),
        "partitions": ("partitions", positive),
        "partition_token": ("partition_token", positive),
        "start": ("start", _start),
        "receipts": ("receipts_ns", _span),
        "delete": ("delete", flag),
        "adopt": ("adopt", flag),
    },
)

TABLES = (FORWARD, TO, WINDOW, RATE, CLASS, SAMPLE, WATCH, BUDGET)


def _forward(value: Value, notes: Notes) -> Forward:
    fields = FORWARD.read(value, notes)
    for key in ("name", "stream", "to"):
        if key not in fields:
            raise wrong(value, f"a forward needs {key!r}")
    _mode(value, fields)
    found = Forward(**fields)
    try:
        found.transforms()
    except TransformError as error:
        raise wrong(value, f"'forward.to.subject' of {found.name!r}: {error}") from error
    return found


def _mode(value: Value, fields: Fields) -> None:
    mode = fields.pop("mode", "parallel" if "partitions" in fields else "ordered")
    if mode == "ordered" and fields.get("partitions", 1) > 1:
        raise wrong(value, "'forward.partitions' are for mode: parallel; ordered is one lane")
    if mode == "parallel":
        if "partition_token" not in fields:
            raise wrong(value, "mode: parallel needs 'partition_token': the token of subjects that is the key, from 1")
        fields.setdefault("partitions", 4)
        if fields["partitions"] > PARTITIONS_MAX:
            raise wrong(value, f"'forward.partitions' must be at most {PARTITIONS_MAX}")


def forwards(value: Value, notes: Notes) -> tuple[Forward, ...]:
    """An array of blocks, or one."""
    items = value.data if isinstance(value.data, list) else [value]
    found = tuple(_forward(item, notes) for item in items)
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise wrong(value, f"two forwards are called {name!r}: the hub tells them apart by their names")
    return found
