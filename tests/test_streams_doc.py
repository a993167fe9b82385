"""docs/streams.md stays true: its Python runs against leafnode and prints what the comments say."""

import ast
import asyncio
import json
import re
from pathlib import Path
from typing import Any

import nats
from nats.js.errors import NotFoundError

from tests.support.servers import jetstream, leafnode

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "streams.md").read_text(encoding="utf-8")
WAIT_SECONDS = 10.0


async def test_the_examples_print_what_they_say(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    expected = [
        line.partition("  # ")[2] for block in blocks for line in block.splitlines() if line.startswith("print(")
    ]
    assert len(blocks) == len(expected) == 3
    printed: list[str] = []
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        nc = await nats.connect(broker.url, allow_reconnect=False)
        js = nc.jetstream()

        async def last_message(stream: str, subject: str) -> Any:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    try:
                        return await js.get_last_msg(stream, subject)
                    except NotFoundError:
                        await asyncio.sleep(0.02)

        names = {
            "json": json,
            "nc": nc,
            "js": js,
            "last_message": last_message,
            "print": lambda *words: printed.append(" ".join(map(str, words))),
        }
        for block in blocks:
            code = compile(block, "docs/streams.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            await eval(code, names)
        await nc.close()
    assert printed == expected
