"""Where the tests get MicroPython from, without touching the system."""

import pytest

from tests.support import micropython

DEB822 = """Types: deb
# http://snapshot.example/20250520T000000Z
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            DEB822,
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian trixie main\n",
        ),
        ("deb http://mirror.example/debian bookworm main contrib\n", "deb http://mirror.example/debian trixie main\n"),
        (
            "deb http://mirror.example/debian-security bookworm-security main\n"
            "deb [arch=arm64 signed-by=/k.gpg] https://mirror.example/debian/ bookworm main\n",
            "deb [signed-by=/k.gpg] https://mirror.example/debian/ trixie main\n",
        ),
    ],
)
def test_source_is_the_machines_own_with_the_suite_replaced(text, line):
    assert micropython.derived_source(["# nothing\n", text]) == line


def test_a_machine_without_debian_sources_is_told_what_to_do():
    with pytest.raises(micropython.NotAvailable, match="put it on PATH"):
        micropython.derived_source(["deb https://packages.example/node nodistro main\n"])


def test_every_interpreter_found_is_the_real_one():
    for interpreter in micropython.find():
        assert tuple(map(int, interpreter.version.split("."))) >= (1, 20)
        assert interpreter.bits in (32, 64)
