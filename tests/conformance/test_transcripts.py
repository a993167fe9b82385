"""Conversations by hand, the same on both servers, byte for byte where clients depend on it."""

import json

import pytest

from tests.conformance.raw import Wire
from tests.support.servers import Broker

QUIET = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'

TRANSCRIPTS: dict[str, tuple[bytes, bytes]] = {
    "publish and receive": (b"SUB a 1\r\nPUB a 2\r\nhi\r\n", b"MSG a 1 2\r\nhi\r\n"),
    "odd spacing and lower case": (b"sub  a   1\r\npub\ta  2\r\nhi\r\n", b"MSG a 1 2\r\nhi\r\n"),
    "bare line feeds": (b"SUB a 1\nPUB a 2\nhi\r\n", b"MSG a 1 2\r\nhi\r\n"),
    "empty payload": (b"SUB a 1\r\nPUB a 0\r\n\r\n", b"MSG a 1 0\r\n\r\n"),
    "reply subject": (b"SUB a 1\r\nPUB a b 1\r\nx\r\n", b"MSG a 1 b 1\r\nx\r\n"),
    "headers": (
        b"SUB a 1\r\nHPUB a 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n",
        b"HMSG a 1 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n",
    ),
    "an empty header block": (b"SUB a 1\r\nHPUB a 0 2\r\nhi\r\n", b"MSG a 1 2\r\nhi\r\n"),
    "a wildcard in a publish is a token": (b"SUB foo.* 1\r\nPUB foo.* 1\r\nx\r\n", b"MSG foo.* 1 1\r\nx\r\n"),
    "no responders": (
        b"SUB in.* 1\r\nPUB nobody in.x 0\r\n\r\n",
        b"HMSG in.x 1 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n",
    ),
    "duplicate sid": (b"SUB a 1\r\nSUB b 1\r\nPUB b 1\r\nx\r\nPUB a 1\r\ny\r\n", b"MSG a 1 1\r\ny\r\n"),
    "a limit already reached": (
        b"SUB a 1\r\nPUB a 1\r\nx\r\nPUB a 1\r\nx\r\nUNSUB 1 2\r\nPUB a 1\r\nx\r\n",
        b"MSG a 1 1\r\nx\r\nMSG a 1 1\r\nx\r\n",
    ),
    "unsub of an unknown sid": (b"UNSUB 77\r\n", b""),
    "invalid subject": (b"SUB a..b 1\r\n", b"-ERR 'Invalid Subject'\r\n"),
    "reserved queue": (
        b"SUB a _sys_ 1\r\n",
        b'-ERR \'Permissions Violation for Subscription to "a" using queue "_sys_"\'\r\n',
    ),
    "reserved reply": (
        b"PUB a $JS.ACK.x 0\r\n\r\n",
        b"-ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.x\"'\r\n",
    ),
    "verbose: the acknowledgement goes before what it causes": (
        b'CONNECT {"verbose":true,"pedantic":false}\r\nSUB a 1\r\nPUB a 1\r\nx\r\nUNSUB 1\r\nUNSUB 1\r\n',
        b"+OK\r\n+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n+OK\r\n+OK\r\n",
    ),
    "reserved subject": (
        b"SUB $NRG.> 1\r\nPUB $NRG.x 0\r\n\r\n",
        b"-ERR 'Permissions Violation for Publish to \"$NRG.x\"'\r\n",
    ),
    "verbose and pedantic": (
        b'CONNECT {"verbose":true,"pedantic":true}\r\nSUB a 1\r\nPUB a..b 1\r\nx\r\n',
        b"+OK\r\n+OK\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\n",
    ),
    "echo off": (
        b'CONNECT {"verbose":false,"echo":false,"headers":true,"no_responders":true}\r\nSUB a 1\r\nPUB a 1\r\nx\r\n',
        b"",
    ),
}

FATAL: dict[str, tuple[bytes, bytes]] = {
    "unknown operation": (b"FOO bar\r\n", b"-ERR 'Unknown Protocol Operation'\r\n"),
    "payload longer than said": (b"PUB a 2\r\nhello\r\n", b"-ERR 'Unknown Protocol Operation'\r\n"),
    "payload above the limit": (b"PUB a 2000000\r\n", b"-ERR 'Maximum Payload Violation'\r\n"),
    "control line above the limit": (b"PUB " + b"a" * 5000, b"-ERR 'maximum control line exceeded'\r\n"),
    "too few arguments": (b"SUB a\r\n", b""),
    "a size that is none": (b"PUB a -1\r\n", b""),
    "more headers than message": (b"HPUB a 9 5\r\n", b""),
    "an error from a client": (b"-ERR 'x'\r\n", b""),
    "CONNECT that is no JSON": (b"CONNECT {bad\r\n", b""),
    "an unknown protocol version": (b'CONNECT {"protocol":7}\r\n', b"-ERR 'invalid client protocol'\r\n"),
    "no responders without headers": (
        b'CONNECT {"no_responders":true,"headers":false}\r\n',
        b"-ERR 'no responders requires headers support'\r\n",
    ),
}


@pytest.mark.parametrize("name", list(TRANSCRIPTS))
def test_conversation(broker: Broker, name: str) -> None:
    sent, expected = TRANSCRIPTS[name]
    with Wire(broker.port) as wire:
        wire.send(QUIET + sent + b"PING\r\n")
        assert wire.until(b"PONG\r\n") == expected + b"PONG\r\n"


@pytest.mark.parametrize("name", list(FATAL))
def test_violation_ends_the_connection(broker: Broker, name: str) -> None:
    sent, expected = FATAL[name]
    with Wire(broker.port) as wire:
        wire.send(QUIET + b"PING\r\n")
        wire.until(b"PONG\r\n")
        wire.send(sent)
        assert wire.rest() == expected


def test_info_has_the_fields_that_clients_read(broker: Broker) -> None:
    with Wire(broker.port) as wire:
        info = json.loads(wire.info.removeprefix(b"INFO "))
    assert wire.info.endswith(b" \r\n")
    for key in ("server_id", "server_name", "version", "proto", "host", "port", "headers", "max_payload", "client_id"):
        assert key in info, key
    assert info["jetstream"] is True
    assert info["proto"] == 1
    assert len(info["server_id"]) == 56


def test_a_client_of_protocol_1_gets_a_second_info_after_its_first_pong(broker: Broker) -> None:
    with Wire(broker.port) as wire:
        wire.send(b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\n')
        assert wire.until(b"PONG\r\n") == b"PONG\r\n"
        info = json.loads(wire.until(b"\r\n").removeprefix(b"INFO "))
    assert info["connect_info"] is True
    assert info["remote_account"] == "$G"
