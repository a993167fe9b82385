"""The `forward` block: which local streams are copied to which hub, and how. Pure."""

import re
from datetime import datetime

from leafnode.config.grammar import Value
from leafnode.config.section import (
    Fields,
    Notes,
    Table,
    choice,
    flag,
    positive,
    subjects,
    text,
    wrong,
)
from leafnode.forward.plan import SECOND, Destination, Forward, Start, Window
from leafnode.route.transform import TransformError

PARTITIONS_MAX = 64  # lanes of a forward: each has a fence at the hub
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _name(value: Value, notes: Notes) -> str:
    found = text(value, notes)
    if not _NAME.fullmatch(found):
        raise wrong(value, f"the name {found!r} of a forward is a token of subjects: up to 64 of A-Z a-z 0-9 _ -")
    return found


TO = Table(
    "forward.to",
    {"stream": ("stream", _name), "domain": ("domain", _name), "subject": ("subject", text)},
)

WINDOW = Table("forward.window", {"messages": ("messages", positive), "bytes": ("bytes", positive)})


def _to(value: Value, notes: Notes) -> Destination:
    fields = TO.read(value, notes)
    for key in ("stream", "domain"):
        if not fields.get(key):
            raise wrong(value, f"'forward.to' needs {key!r}: the hub's {key}")
    return Destination(**fields)


def _window(value: Value, notes: Notes) -> Window:
    return Window(**WINDOW.read(value, notes))


def _start(value: Value, notes: Notes) -> Start:
    """`all`, `new`, a sequence, or a time."""
    if isinstance(value.data, int) and not isinstance(value.data, bool) and value.data > 0:
        return Start(policy="sequence", sequence=value.data)
    if value.data in ("all", "new"):
        return Start(policy=str(value.data))
    if not isinstance(value.data, datetime):
        raise wrong(
            value, "'forward.start' must be all, new, a sequence from 1, or a time such as 2026-11-20T00:00:00Z"
        )
    return Start(policy="time", time_ns=int(value.data.timestamp() * SECOND))


FORWARD = Table(
    "forward",
    {
        "name": ("name", _name),
        "stream": ("stream", _name),
        "account": ("account", text),
        "subjects|filter_subjects|filter_subject": ("filters", subjects),
        "to": ("to", _to),
        "window": ("window", _window),
        "mode": ("mode", choice("ordered", "parallel")),
        "partitions": ("partitions", positive),
        "partition_token": ("partition_token", positive),
        "start": ("start", _start),
        "adopt": ("adopt", flag),
    },
)

TABLES = (FORWARD, TO, WINDOW)


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
