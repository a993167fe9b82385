"""What the spectator sees: headings, command lines with their output, remarks, and the summary at the end.

Everything goes to stdout, line by line, in colour only on a terminal. The margin tells what a line is:

    ── 3 of 9 · Title ──    a step begins
       words                what happens, and why it matters
       $ fleet ls           a command as one would type it
       │ pi-roof-1  up      what the command printed
       ✓ proof (1.2 s)      what the step proved, or ✗ and why not
"""

import os
import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final

WIDTH: Final = 110  # columns of prose and rules; command output may be wider
MARGIN: Final = "   "
STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}


def typed(words: Sequence[str]) -> str:
    """A command line as a person would type it: `'…'` only where needed, `"…"` around a word with apostrophes."""
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in words
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one step ended. `true` is None for a step that was not reached."""

    title: str
    true: bool | None
    seconds: float
    words: str


class Teller:
    """Prints the demo. `out` is stdout unless a test wants it."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self.out = out or sys.stdout
        self.coloured = self.out.isatty() and not os.environ.get("NO_COLOR")

    def line(self, text: str = "") -> None:
        print(text, file=self.out, flush=True)

    def styled(self, style: str, text: str) -> str:
        return f"\033[{STYLES[style]}m{text}\033[0m" if self.coloured else text

    def heading(self, number: int, total: int, title: str) -> None:
        rule = f"── {number} of {total} · {title} "
        self.line()
        self.line(self.styled("bold", rule.ljust(WIDTH, "─")))

    def say(self, text: str) -> None:
        """Prose; wrapped, so that it may be written as one long string."""
        for each in textwrap.wrap(text, WIDTH - len(MARGIN), break_long_words=False, break_on_hyphens=False):
            self.line(MARGIN + each)

    def command(self, text: str) -> None:
        self.line(MARGIN + self.styled("cyan", f"$ {text}"))

    def printed(self, text: str) -> None:
        self.line(MARGIN + self.styled("dim", "│ ") + text.rstrip("\n"))

    def verdict(self, outcome: Outcome) -> None:
        self.line(f"{MARGIN}{self.mark(outcome.true)} {outcome.words} ({outcome.seconds:.1f} s)")

    def mark(self, true: bool | None) -> str:
        if true is None:
            return self.styled("dim", "–")
        return self.styled("green", "✓") if true else self.styled("red", "✗")

    def tail(self, title: str, lines: Sequence[str]) -> None:
        """The end of a log."""
        self.line(f"{MARGIN}{title}")
        for each in lines:
            self.printed(each)

    def summary(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        self.line()
        self.line(self.styled("bold", "── Summary ".ljust(WIDTH, "─")))
        width = max(len(each.title) for each in outcomes)
        for each in outcomes:
            took = f"{each.seconds:5.1f} s" if each.true is not None else "       "
            first, *rest = textwrap.wrap(each.words, WIDTH - width - 14) or [""]
            self.line(f" {self.mark(each.true)} {each.title.ljust(width)} {took}  {first}")
            for more in rest:
                self.line(" " * (width + 12) + more)
        came = sum(each.true is True for each in outcomes)
        self.line()
        self.line(self.styled("bold", f"{came} of {len(outcomes)} steps came true in {seconds:.0f} s"))
