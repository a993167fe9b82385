"""Prometheus' text: its form, and that every metric is explained."""

import re
from pathlib import Path

import pytest

from leafnode.net.metrics import METRICS, Sample, exposition

PAGE = (Path(__file__).parents[3] / "docs" / "monitoring.md").read_text()
SAMPLE = re.compile(r'[a-z_]+(\{([a-z_]+="(\\.|[^"\\])*",?)+\})? -?[0-9.e+-]+')


def test_every_metric_is_in_the_page_and_no_other() -> None:
    assert re.findall(r"^\| `(leafnode_\w+)` \|", PAGE, re.MULTILINE) == list(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_names_follow_the_custom(name: str) -> None:
    assert name.endswith("_total") == (METRICS[name].kind == "counter")


def test_each_metric_has_one_header_and_its_samples_together() -> None:
    text = exposition(
        [
            Sample("leafnode_stream_messages", 3, {"account": "A", "stream": "S"}),
            Sample("leafnode_connections", 2),
            Sample("leafnode_stream_messages", 4, {"account": "A", "stream": "T"}),
        ]
    )
    assert text == (
        "# HELP leafnode_connections clients connected now\n"
        "# TYPE leafnode_connections gauge\n"
        "leafnode_connections 2\n"
        "# HELP leafnode_stream_messages messages in a stream\n"
        "# TYPE leafnode_stream_messages gauge\n"
        'leafnode_stream_messages{account="A",stream="S"} 3\n'
        'leafnode_stream_messages{account="A",stream="T"} 4\n'
    )


@pytest.mark.parametrize("label", ['a"b', "a\\b", "a\nb", "ä"])
def test_labels_are_escaped(label: str) -> None:
    text = exposition([Sample("leafnode_stream_bytes", 1.5, {"stream": label})])
    assert SAMPLE.fullmatch(text.splitlines()[-1])
    assert len(text.splitlines()) == 3
