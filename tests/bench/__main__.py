"""`make bench`: leafnode beside a stock nats-server, in one run, as ratios.

Rounds alternate between the servers, figures are medians, and each row gives leafnode's figure divided by
nats-server's: absolute numbers move with the machine, ratios much less. "safe" is nats-server with `sync_interval:
always`, the promise that leafnode makes by default; the plain nats-server acknowledges before it syncs. "goal" is the
ratio that leafnode is to reach; for times and memory it is an upper bound.

    make bench ARGS="--rounds 5 --only durable"
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.bench import consume, durable, firmware, forward, links, load, scale, store
from tests.bench.core import CASES
from tests.support.servers import Broker, leafnode, stock_hub

Measure = Callable[[int], float]

CONSUME: dict[str, tuple[str, Measure]] = {
    "pull, 256 B": ("msg/s", lambda port: consume.drain(port, 256, 50_000)),
    "pull, 256 B, each acknowledged": ("msg/s", lambda port: consume.drain(port, 256, 20_000, acks=True)),
    "push, 256 B": ("msg/s", lambda port: consume.drain(port, 256, 50_000, push=True)),
    "push, 256 B, each acknowledged": ("msg/s", lambda port: consume.drain(port, 256, 20_000, push=True, acks=True)),
}


def jetstream(folder: Path, extra: str = "") -> str:
    return f'jetstream {{ store_dir: "{folder / "js"}" {extra} }}'


def start_ms(make: Callable[[], Broker]) -> tuple[Broker, float]:
    """Start a server; milliseconds until a client got its first PONG."""
    broker = make()
    broker.ready = ""
    began = time.perf_counter()
    broker.start()
    while True:
        try:
            load.Client(broker.port).close()
        except OSError:
            if not broker.alive():
                raise RuntimeError(f"{broker.argv} did not start:\n{broker.output()}") from None
            time.sleep(0.002)
        else:
            return broker, (time.perf_counter() - began) * 1000


def resident_mb(broker: Broker) -> float:
    return float(psutil.Process(broker.pid).memory_info().rss) / 1e6


def medians(cases: dict[str, tuple[str, Measure]], brokers: list[Broker], rounds: int) -> dict[str, list[float]]:
    results: dict[str, list[float]] = {}
    for name, (_, measure) in cases.items():
        samples: list[list[float]] = [[] for _ in brokers]
        for _ in range(rounds):
            for broker, kept in zip(brokers, samples, strict=True):
                kept.append(measure(broker.port))
        results[name] = [statistics.median(kept) for kept in samples]
        print(".", end="", file=sys.stderr, flush=True)
    return results


def row(
    name: str, unit: str, ours: float, theirs: float, safe: float | None = None, *, goal: float | None = None
) -> str:
    ratio = f"{ours / theirs:>7.2f}" if theirs else f"{'-':>7}"
    text = f"{name:<50} {ours:>12,.1f} {theirs:>12,.1f} {unit:<6} {ratio}"
    return text + (f" {ours / safe:>7.2f}" if safe else "") + (f" goal {goal}" if goal else "")


def main() -> int:
    options = argparse.ArgumentParser(prog="make bench", description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=3, help="measurements of each case (default 3)")
    options.add_argument(
        "--only",
        choices=["core", "scale", "durable", "store", "consume", "links", "forward", "firmware"],
        help="leave the others out",
    )
    chosen = options.parse_args()
    if chosen.only not in ("links", "forward", "firmware"):
        with tempfile.TemporaryDirectory(prefix="fleetleaf-bench-") as folder:
            run(Path(folder), chosen.rounds, chosen.only)
    if chosen.only in (None, "forward"):
        print("\na site comes back: forwarded by leafnode, beside a nats-server that is sourced")
        for name, ours, unit, theirs in forward.run():
            print(row(name, unit, ours, theirs) if theirs else f"{name:<58} {ours:>12,.1f} {unit}")
    if chosen.only in (None, "links"):
        with tempfile.TemporaryDirectory(prefix="fleetleaf-bench-") as folder:
            print("\nover a leaf link")
            for line in links.run(Path(folder)):
                print(line, flush=True)
    if chosen.only in (None, "firmware"):
        print("\nthe Pico firmware on MicroPython, against nats-server")
        for figure in firmware.run():
            print(f"{figure['name']:<64} {figure['value']:>12,.2f} {figure['unit']}")
    return 0


def run(folder: Path, rounds: int, only: str | None) -> None:
    ours, our_start = start_ms(lambda: leafnode(folder / "leafnode", config=jetstream(folder / "leafnode")))
    stock, stock_start = start_ms(lambda: stock_hub(folder / "stock", config=jetstream(folder / "stock")))
    always = jetstream(folder / "safe", ", sync_interval: always")
    safe, _ = start_ms(lambda: stock_hub(folder / "safe", config=always))
    try:
        print(f"{'':<50} {'leafnode':>12} {'nats-server':>12} {'':<6} {'ratio':>7} {'to safe':>7}")
        print(row("start to first PONG", "ms", our_start, stock_start))
        print(row("resident memory, idle", "MB", resident_mb(ours), resident_mb(stock)))
        if only in (None, "core"):
            measures = {name: (case.unit, case.measure) for name, case in CASES.items()}
            for name, (mine, theirs) in medians(measures, [ours, stock], rounds).items():
                print(row(name, CASES[name].unit, mine, theirs, goal=CASES[name].goal))
            print(row("resident memory, after that", "MB", resident_mb(ours), resident_mb(stock)))
        if only in (None, "scale"):
            for name, unit, (mine, theirs) in scale.run([ours, stock]):
                print(row(name, unit, mine, theirs))
        if only in (None, "durable"):
            for name, unit, (mine, theirs, synced), goal in durable.run([ours, stock, safe], rounds):
                print(row(name, unit, mine, theirs, synced, goal=goal), flush=True)
        if only in (None, "store"):
            for name, unit, (mine, theirs, synced) in store.run([ours, stock, safe], rounds):
                print(row(name, unit, mine, theirs, synced), flush=True)
        if only in (None, "consume"):
            for name, (mine, theirs) in medians(CONSUME, [ours, stock], rounds).items():
                print(row(f"drain by {name}", CONSUME[name][0], mine, theirs))
        print(row("resident memory, after the load", "MB", resident_mb(ours), resident_mb(stock)))
    finally:
        for broker in (ours, stock, safe):
            broker.stop()
    if only in (None, "store"):
        large = folder / "large"
        mine_ms, mine_mb = store.opening(lambda: leafnode(large / "leafnode", config=jetstream(large / "leafnode")))
        stock_ms, stock_mb = store.opening(lambda: stock_hub(large / "stock", config=jetstream(large / "stock")))
        held = f"{store.LARGE_MESSAGES:,} messages and {store.LARGE_SUBJECTS:,} keys"
        print(row(f"start with {held}", "ms", mine_ms, stock_ms))
        print(row("resident memory with them", "MB", mine_mb, stock_mb))


if __name__ == "__main__":
    raise SystemExit(main())
