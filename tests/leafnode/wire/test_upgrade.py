"""The request that becomes a websocket."""

import contextlib
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.wire.upgrade import AGREED, Rules, accept_of, answer, is_header, is_origin, parse_request, refusal
from leafnode.wire.upgrade import RequestError as Refused
from tests.support.frames import KEY, request


def ask(*lines: str, rules: Rules | None = None, path: str = "/", without: str = "", host: str = "site") -> str:
    head = request(*lines, path=path, without=without, host=host).removesuffix(b"\r\n\r\n")
    response, _ = answer(parse_request(head), rules or Rules())
    return response.decode()


def status(*lines: str, rules: Rules | None = None, without: str = "", path: str = "/", host: str = "site") -> int:
    try:
        response = ask(*lines, rules=rules, without=without, path=path, host=host).encode()
    except Refused as error:
        response = refusal(error)
    return int(response.removeprefix(b"HTTP/1.1 ")[:3])


def test_the_example_of_the_standard() -> None:
    assert accept_of("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_usual_answer() -> None:
    response = ask(rules=Rules(headers={"X-Site": "roof"}))
    assert response == (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_of(KEY)}\r\nX-Site: roof\r\n\r\n"
    )


@pytest.mark.parametrize("line", ["Host", "Upgrade: ", "Connection", "Key", "Version"])
def test_each_line_is_needed(line: str) -> None:
    assert status(without=line) == 400


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("Key", "Sec-WebSocket-Key: c2hvcnQ="),
        ("Key", "Sec-WebSocket-Key: ???"),
        ("Version", "Sec-WebSocket-Version: 8"),
    ],
)
def test_each_line_must_be_right(line: str, instead: str) -> None:
    assert status(instead, without=line) == 400


def test_other_methods_and_paths() -> None:
    head = request().replace(b"GET", b"POST").removesuffix(b"\r\n\r\n")
    with pytest.raises(Refused) as caught:
        answer(parse_request(head), Rules())
    assert caught.value.status == 405
    assert status(path="/leafnode") == 404
    assert status(path="/a/mqtt?x=1") == 404
    assert status(path="/anything/else?x=/mqtt") == 101


def test_compression_is_agreed_on_only_where_both_want_it() -> None:
    header = "Sec-WebSocket-Extensions: "
    wanted = Rules(compression=True)
    assert AGREED in ask(header + AGREED, rules=wanted)
    assert AGREED in ask(header + "permessage-deflate; client_max_window_bits", rules=wanted)
    assert AGREED in ask(header + "other, Permessage-Deflate", rules=wanted)
    assert AGREED not in ask(header + "permessage-deflate; server_max_window_bits=9", rules=wanted)
    assert AGREED not in ask(rules=wanted)
    assert AGREED not in ask(header + AGREED)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://site", 101),
        ("http://SITE:80", 101),
        ("https://site", 403),
        ("http://site:81", 403),
        ("http://other", 403),
        ("null", 403),
        ("http://site:port", 403),
        ("", 101),
    ],
)
def test_same_origin(origin: str, expected: int) -> None:
    assert status(f"Origin: {origin}", rules=Rules(same_origin=True)) == expected


def test_same_origin_with_tls_and_ports() -> None:
    secure = Rules(same_origin=True, is_tls=True)
    assert status("Origin: https://site", rules=secure) == 101
    assert status("Origin: http://site", rules=secure) == 403
    assert status("Origin: https://site:8443", rules=secure, host="site:8443") == 101
    assert status("Origin: http://[::1]:8080", rules=Rules(same_origin=True), host="[::1]:8080") == 101


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://a.org", 101),
        ("http://A.org:80", 101),
        ("https://b.org:444", 101),
        ("https://a.org", 403),
        ("null", 403),
    ],
)
def test_allowed_origins(origin: str, expected: int) -> None:
    rules = Rules(origins=("http://a.org", "https://b.org:444"))
    assert status(f"Origin: {origin}", rules=rules) == expected
    assert status(rules=rules) == 101  # no browser
    assert all(is_origin(allowed) for allowed in rules.origins)
    assert not is_origin("a.org")


def test_cookies_and_browsers() -> None:
    lines = ["Cookie: a=1; t=secret", "Cookie: b=2", "User-Agent: Mozilla/5.0"]
    _, agreed = answer(parse_request(request(*lines).removesuffix(b"\r\n\r\n")), Rules())
    assert agreed.cookies == {"a": "1", "t": "secret", "b": "2"}
    assert agreed.is_browser
    assert not agreed.compresses


@pytest.mark.parametrize(
    "head",
    [b"", b"hello", b"GET / HTTP/1.0", b"GET  / HTTP/1.1", b"GET / HTTP/1.1\r\nno colon", b"GET / HTTP/1.1\r\na b: c"],
)
def test_what_is_no_request(head: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse_request(head)
    assert caught.value.status == 400


def test_too_many_lines() -> None:
    with pytest.raises(Refused) as caught:
        parse_request(b"GET / HTTP/1.1" + b"\r\na: b" * 101)
    assert caught.value.status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


@given(st.binary(max_size=200))
def test_any_bytes_at_all(head: bytes) -> None:
    """An answer or a refusal; nothing else is raised."""
    with contextlib.suppress(Refused):
        answer(parse_request(b"GET / HTTP/1.1\r\n" + head), Rules(compression=True, same_origin=True))


def test_headers_of_the_configuration() -> None:
    assert is_header("X-Site", "roof 7")
    assert not is_header("X Site", "roof")
    assert not is_header("X-Site", "a\r\nSet-Cookie: b")
