"""The header block of a message (ADR-4).

    NATS/1.0[ code[ text]]CRLF  Name: valueCRLF ... CRLF

Blocks travel as bytes and are looked into only where a rule needs it. Names are case-sensitive on the wire; `get`
compares them exactly first and without case after that, as servers do for the headers that they know.
"""

VERSION = b"NATS/1.0"
EMPTY = b"NATS/1.0\r\n\r\n"


def status(code: int, text: str = "", *lines: tuple[str, str]) -> bytes:
    """A block that is nothing but a status: `NATS/1.0 404 No Messages`, then any lines."""
    first = f"NATS/1.0 {code} {text}" if text else f"NATS/1.0 {code}"
    more = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{first}\r\n{more}\r\n".encode()


def get(block: bytes, name: bytes) -> bytes | None:
    """Value of the first header of that name, stripped; None if there is none."""
    start = block.find(b"\r\n" + name + b":")
    if start < 0:
        return _get_any_case(block, name) if block else None
    start += len(name) + 3
    stop = block.find(b"\r\n", start)
    return block[start : stop if stop >= 0 else len(block)].strip()


def _get_any_case(block: bytes, name: bytes) -> bytes | None:
    wanted = name.lower()
    for line in block.split(b"\r\n")[1:]:
        key, colon, value = line.partition(b":")
        if colon and key.lower() == wanted:
            return value.strip()
    return None


def without(block: bytes, name: bytes) -> bytes:
    """The block without any header of that name, exactly so written."""
    if name not in block:
        return block
    return b"\r\n".join(line for line in block.split(b"\r\n") if not line.startswith(name + b":"))


def with_lines(block: bytes, *lines: tuple[bytes, bytes]) -> bytes:
    """The block with lines added at its end; a new block if there was none."""
    return opened(block) + b"".join(name + b": " + value + b"\r\n" for name, value in lines) + b"\r\n"


def opened(block: bytes) -> bytes:
    """The block without its end, so that lines can follow; that of a new block if there was none."""
    return block[:-2] if block.endswith(b"\r\n\r\n") else VERSION + b"\r\n"


def without_prefixes(block: bytes, *prefixes: bytes) -> bytes:
    """The block without the headers whose names begin so; nothing if no header is left."""
    if not any(b"\r\n" + prefix in block for prefix in prefixes):
        return block
    kept = [line for line in block.split(b"\r\n") if not line.startswith(prefixes)]
    return b"\r\n".join(kept) if any(kept[1:]) else b""


def with_value(block: bytes, name: bytes, value: bytes) -> bytes:
    """The block with one header set: in the place of the first of that name, or at the end."""
    start = block.find(b"\r\n" + name + b":")
    if start < 0:
        return with_lines(block, (name, value))
    start += 2
    stop = block.find(b"\r\n", start)
    return block[:start] + name + b": " + value + block[stop:]
