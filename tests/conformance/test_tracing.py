"""The protocol in the log of both servers: the same lines for the same conversation."""

import re
from pathlib import Path

import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire

TALK = [
    b'CONNECT {"verbose":true,"user":"u","pass":"secret","auth_token":"t","name":"app","lang":"py","version":"1"}\r\n',
    b"SUB a 1\r\n",
    b"PUB a 5\r\nhello\r\n",
    b'PUB a 14\r\n\x00"0123456789ab\r\n',
    b"UNSUB 1 5\r\n",
    b"SUB x..y 3\r\n",
    b"PING\r\n",
    b"FOO\r\n",
]


def lines(log: str, arrow: str) -> list[str]:
    """One direction, without process, time and client: only we know what is no operation for one."""
    found = re.findall(rf"\[TRC\] 127\.0\.0\.1:[0-9]+ - cid:[0-9]+ .*?({arrow} .*)$", log, re.MULTILINE)
    return [line for line in found if "[FOO" not in line]


@pytest.mark.parametrize("flags", [["-V"], ["-DV", "--max_traced_msg_len", "5"]])
def test_the_same_lines(tmp_path: Path, flags: list[str]) -> None:
    traced = {}
    for name, make in MAKERS.items():
        with make(tmp_path / name, flags=flags) as broker:
            with Wire(broker.port) as wire:
                for part in TALK[:-1]:
                    wire.send(part)
                    wire.send(b"PING\r\n")
                    wire.until(b"PONG\r\n")
                wire.send(TALK[-1])
                wire.rest()
            while "Unknown Protocol Operation" not in (log := broker.output()):
                assert broker.alive()
            assert "secret" not in log
            assert ' - "v1:py:app" - ' in log
            traced[name] = [lines(log, "<<-"), lines(log, "->>")]
            assert ("Client connection created" in log) == ("-DV" in flags)
    assert traced["leafnode"] == traced["nats-server"]
    assert any("MSG_PAYLOAD" in line for line in traced["leafnode"][1])
