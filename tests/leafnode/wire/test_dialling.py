"""What a dialler says to proxies and websocket hubs, and what it makes of their answers."""

import pytest

from leafnode.errors import ProtocolError
from leafnode.wire.dialling import Agreement, agreement, connect_request, parse_response, upgrade_request
from leafnode.wire.upgrade import Rules, accept_of, answer, parse_request

KEY = "MDEyMzQ1Njc4OWFiY2RlZg=="


def test_a_tunnel_is_asked_for_with_credentials() -> None:
    assert connect_request("hub:443", user="a", password="b") == (
        b"CONNECT hub:443 HTTP/1.1\r\nHost: hub:443\r\nProxy-Authorization: Basic YTpi\r\n\r\n"
    )
    assert b"Authorization" not in connect_request("hub:443")


@pytest.mark.parametrize("offers", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("takes", [False, True])
def test_what_we_ask_for_our_own_server_grants(offers: tuple[bool, bool], takes: bool) -> None:
    compresses, no_masking = offers
    request = upgrade_request("hub:80", "/base/", KEY, compresses=compresses, no_masking=no_masking)
    parsed = parse_request(request.removesuffix(b"\r\n\r\n"))
    assert parsed.path == "/base/leafnode"
    granted, theirs = answer(parsed, Rules(compression=takes, takes_leaves=True))
    ours = agreement(
        parse_response(granted.removesuffix(b"\r\n\r\n")), KEY, compresses=compresses, no_masking=no_masking
    )
    assert ours == Agreement(compresses and takes, not no_masking)
    assert (theirs.compresses, theirs.masks, theirs.is_leaf) == (ours.compresses, ours.masks, True)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"SSH-2.0-x", "not HTTP"),
        (b"HTTP/1.1 403 Forbidden", "HTTP 403 Forbidden"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x", "not that"),
        (
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Extensions: permessage-deflate",
            "compress over several messages",
        ),
    ],
)
def test_other_answers_are_refused_with_a_reason(head: bytes, why: str) -> None:
    head = head.replace(b"ACCEPT", accept_of(KEY).encode())
    with pytest.raises(ProtocolError) as caught:
        agreement(parse_response(head), KEY, compresses=True, no_masking=False)
    assert why in caught.value.reason
