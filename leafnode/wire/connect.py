"""The JSON of a client's CONNECT, read as strictly and as leniently as nats-server reads it. Pure.

Names in any case, unknown ones ignored, null like a missing one; a value of the wrong type ends the connection without
a word. Source: spec client-protocol section 3.
"""

import json

from leafnode.errors import ProtocolError

KINDS: dict[str, type] = {
    **dict.fromkeys(("verbose", "pedantic", "echo", "tls_required", "headers", "no_responders", "new_account"), bool),
    **dict.fromkeys(("user", "pass", "auth_token", "nkey", "sig", "jwt", "proxy_sig"), str),
    **dict.fromkeys(("name", "lang", "version", "account"), str),
    "protocol": int,
}


def parse_connect(text: bytes) -> dict[str, object]:
    """The options that are given, by their proper names.

    Raises:
        ProtocolError: it is no object, or a value has the wrong type.
    """
    options = parse_object(text)
    found: dict[str, object] = {}
    for key, value in options.items():
        name = key.lower()
        kind = KINDS.get(name)
        if kind is None or value is None:
            continue
        if type(value) is not kind:
            raise ProtocolError(reason=f"Protocol Violation: {name!r} of CONNECT is not {kind.__name__}")
        found[name] = value
    return found


def parse_object(text: bytes) -> dict[str, object]:
    """A JSON object; null is an empty one. Raises ProtocolError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = False
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ProtocolError(reason="Protocol Violation: a JSON object is expected")
    return value
