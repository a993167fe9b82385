"""Protocol tracing: lines as nats-server writes them, whatever the chunking, and never a secret."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from leafnode.wire.trace import LINE_MAX, Conversation, Tracer, quoted, without_secrets

TALK = (
    b'CONNECT {"verbose":false,"user":"u","pass":"a\\"b","auth_token": "t","name":"app"}\r\nPING\r\n'
    b"sub   zz   9\r\nPUB a 5\r\nhello\r\nHPUB a r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\nPUB a 0\r\n\r\n"
    b'PUB a 4\r\n\x00"\xff\n\r\nUNSUB 2 5\r\nFOO\r\n'
)
SHOWN = [
    '<<- [CONNECT {"verbose":false,"user":"u","pass":"[REDACTED]","auth_token": "[REDACTED]","name":"app"}]',
    "<<- [PING]",
    "<<- [SUB zz   9]",
    "<<- [PUB a 5]",
    '<<- MSG_PAYLOAD: ["hello"]',
    "<<- [HPUB a r 18 20]",
    r'<<- MSG_PAYLOAD: ["NATS/1.0\r\nA: b\r\n\r\nhi"]',
    "<<- [PUB a 0]",
    "<<- [PUB a 4]",
    r'<<- MSG_PAYLOAD: ["\x00\"\xff\n"]',
    "<<- [UNSUB 2 5]",
    "<<- [FOO]",
]


def test_what_a_client_sends() -> None:
    assert list(Tracer("<<-").feed(TALK)) == SHOWN


@settings(max_examples=50)
@given(st.lists(st.integers(0, len(TALK)), max_size=8))
def test_chunks_change_nothing(cuts: list[int]) -> None:
    tracer, seen = Tracer("<<-"), list[str]()
    edges = [0, *sorted(cuts), len(TALK)]
    for begin, end in itertools.pairwise(edges):
        seen += tracer.feed(TALK[begin:end])
    assert seen == SHOWN


def test_what_is_sent_to_a_client() -> None:
    said: list[str] = []
    talk = Conversation(said.append)
    talk.sent(b"INFO {} \r\n+OK\r\nPONG\r\nMSG a 1 2\r\nhi\r\n-ERR 'Invalid Subject'\r\nHMSG a 1 12 14\r\n")
    talk.sent(b"NATS/1.0\r\n\r\nhi\r\n")
    assert said == [
        "->> [OK]",
        "->> [PONG]",
        "->> [MSG a 1 2]",
        '->> MSG_PAYLOAD: ["hi"]',
        "->> [-ERR Invalid Subject]",
        "->> [HMSG a 1 12 14]",
        r'->> MSG_PAYLOAD: ["NATS/1.0\r\n\r\nhi"]',
    ]


def test_long_payloads_are_cut() -> None:
    assert list(Tracer("<<-", limit=3).feed(b"PUB a 5\r\nhello\r\nPUB a 3\r\nabc\r\n")) == [
        "<<- [PUB a 5]",
        '<<- MSG_PAYLOAD: ["hel..."]',
        "<<- [PUB a 3]",
        '<<- MSG_PAYLOAD: ["abc"]',
    ]


def test_headers_only() -> None:
    talk = b"PUB a 5\r\nhello\r\nHPUB a 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n"
    assert list(Tracer("<<-", headers_only=True).feed(talk)) == [
        "<<- [PUB a 5]",
        "<<- [HPUB a 18 20]",
        r'<<- MSG_PAYLOAD: ["NATS/1.0\r\nA: b"]',
    ]


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    tracer = Tracer("<<-")
    assert list(tracer.feed(b"x" * (LINE_MAX + 1))) == []
    assert list(tracer.feed(b"PING\r\n")) == ["<<- [PING]"]


def test_what_is_no_json_may_hold_anything() -> None:
    assert without_secrets(b'{"pass":"x"') == b"..."


@given(st.binary(max_size=40))
def test_quoted_text_is_one_printable_line(data: bytes) -> None:
    assert quoted(data).isprintable()
