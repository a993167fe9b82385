"""A device under test: publishes numbered readings and says what becomes of each. Runs on MicroPython and CPython.

    device.py FIRMWARE CONFIG COUNT PAUSE_MS [quiet]

Prints `pub BOOT-SEQ`, `stored BOOT-SEQ`, `acked BOOT-SEQ`, `dropped BOOT-SEQ`; with `quiet` instead, once connected,
`used BYTES` for the heap that the firmware takes, `heap FREE` every HEAP_EVERY readings, and `took MS` for all. COUNT 0
means until the file CONFIG.enough exists. Then everything is settled and `done` follows, with the stats as JSON.
"""

import gc
import json
import os
import sys

sys.path.insert(0, sys.argv[1])

import asyncio

gc.collect()
BEFORE_BYTES = gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0

from picoleaf import Publisher  # noqa: E402  after the measurement

HEAP_EVERY = 500
LEAVE_ROOM = 24  # readings: publishing pauses before anything would be dropped


def enough():
    try:
        os.stat(sys.argv[2] + ".enough")
    except OSError:
        return False
    return True


async def publish(pub, count, pause_ms, names, watched):
    done = 0
    while not (count and done == count) and not enough():
        if pause_ms:
            await asyncio.sleep(pause_ms / 1000)
        else:
            while pub.store.room < LEAVE_ROOM:
                await asyncio.sleep(0.001)
        ticket = pub.publish(names[done % len(names)], done)
        done += 1
        if watched is not None:
            print(f"pub {ticket.key[0]}-{ticket.key[1]}")
            watched.tickets.append(ticket)
        elif done % HEAP_EVERY == 0:
            while pub.stats()["queued"] or pub.stats()["in_flight"]:
                await asyncio.sleep(0.001)
            gc.collect()
            print(f"heap {gc.mem_free() if hasattr(gc, 'mem_free') else 0}")


class Watched:
    """Readings whose end is not known. Of those in flash only the numbers are kept, so that many fit RAM."""

    def __init__(self, store):
        self.store = store
        self.tickets = []
        self.away = []

    def look(self):
        for key in self.away[:HEAP_EVERY]:
            state = self.store.fate(key)
            if state not in ("acked", "dropped"):
                break
            print(f"{state} {key[0]}-{key[1]}")
            self.away.pop(0)
        for ticket in list(self.tickets):
            state = ticket.state
            if state in ("stored", "acked", "dropped"):
                print(f"{state} {ticket.key[0]}-{ticket.key[1]}")
                self.tickets.remove(ticket)
                if state == "stored":
                    self.away.append(ticket.key)


async def watch(watched):
    while True:
        watched.look()
        await asyncio.sleep(0.02)


async def main():
    pub = Publisher.from_file(sys.argv[2])
    count, pause_ms = int(sys.argv[3]), int(sys.argv[4])
    watched = None if "quiet" in sys.argv else Watched(pub.store)
    names = pub.settings.get("names", ["a", "b"])
    running = asyncio.create_task(pub.main())
    watching = asyncio.create_task(watch(watched)) if watched is not None else None
    while watched is None and not pub.link.up:
        await asyncio.sleep(0.01)
    if watched is None:
        gc.collect()
        print(f"used {gc.mem_alloc() - BEFORE_BYTES if BEFORE_BYTES else 0}")
    began = pub.clock.uptime_ms()
    await publish(pub, count, pause_ms, names, watched)
    while True:
        stats = pub.stats()
        if not (stats["queued"] or stats["in_flight"] or stats["flash_bytes"] or stats["lost"]):
            break
        await asyncio.sleep(0.02)
    if watched is not None:
        while watched.away or watched.tickets:
            watched.look()
    print(f"took {pub.clock.uptime_ms() - began}")
    print("done " + json.dumps(stats))
    for task in (running, watching):
        if task:
            task.cancel()


asyncio.run(main())
