"""Random programs of JetStream requests, run by nats-server and leafnode side by side: every answer must be the same.

    python -m tests.conformance.programs --seeds 0:200        (make compare SEEDS=0:200)

A program is made from its seed alone: a stream and a few consumers, then publishes, fetches, acknowledgements,
deletions, purges, updates, resets. What a server does on its own time (signalling consumers, retention) is waited for:
infos are asked until they agree. A difference names the seed and shows the steps that led to it.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.conformance.pair import Differ, Pair, pair_of

SUBJECTS = ("p.a", "p.b", "p.c.d")
FILTERS: tuple[list[str], ...] = ([], ["p.a"], ["p.*"], ["p.>"], ["p.b", "p.c.>"], ["p.a", "p.b"])
APART: tuple[list[str], ...] = (["p.a"], ["p.b"], ["p.c.>"])  # of a work queue: nobody wants what another one wants
STEPS = 30  # of one program


class Program:
    """One seed's program, running."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self._pair = pair
        self._choice = random.Random(seed)
        self._at = f"P{seed}"  # a name of its own: nats-server may still be deleting the one before
        self._stream: dict[str, Any] = {}
        self._consumers: dict[str, dict[str, Any]] = {}
        self._open: list[tuple[str, str, int]] = []  # deliveries to answer: consumer, inbox, place in it
        self._last = 0
        self._has_deleted = False
        self._keeps_all = False  # nothing may go: a server's walk along the last of each subject stops at a gap
        self.log: list[str] = []

    def run(self, steps: int = STEPS) -> None:
        """All steps.

        Raises:
            Differ: the servers disagree; the steps so far are in `log`.
        """
        self._begin()
        for _ in range(steps):
            self._step()
        for name in self._consumers:
            self._info(name)
        self._stream_info()

    def _note(self, *words: object) -> None:
        self.log.append(" ".join(str(word) for word in words))

    # setting up --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        pick = self._choice
        self._stream = {
            "name": self._at,
            "subjects": ["p.>"],
            "retention": pick.choice(["limits", "limits", "workqueue", "interest"]),
            "storage": pick.choice(["file", "memory"]),
            "max_msgs": pick.choice([-1, -1, 6]),
            "max_msgs_per_subject": pick.choice([-1, -1, 1, 3]),
        }
        self._note("stream", self._stream)
        self._pair.settles(f"STREAM.CREATE.{self._at}", self._stream)
        if pick.random() < 0.6:
            self._publish()
        for place in range(pick.randint(1, 3)):
            self._make_consumer(place)

    def _make_consumer(self, place: int) -> None:
        pick = self._choice
        name = f"c{place}"
        config: dict[str, Any] = {
            "durable_name": name,
            "ack_policy": pick.choice(["explicit", "explicit", "all", "none"]),
            "max_deliver": pick.choice([-1, -1, 2]),
            "headers_only": pick.random() < 0.1,
        }
        filters = pick.choice(FILTERS)
        policy = pick.choice(["all", "all", "new", "last", "by_start_sequence"])
        if pick.random() < 0.2 and not self._loses:
            policy, self._keeps_all = "last_per_subject", True
        if self._stream["retention"] == "workqueue":
            config["ack_policy"], policy, filters = "explicit", "all", APART[place]
        if policy == "last_per_subject" and not filters:
            filters = ["p.>"]
        if policy == "by_start_sequence":
            config["opt_start_seq"] = max(1, pick.randint(self._last - 3, self._last + 1))
        config["deliver_policy"] = policy
        if config["ack_policy"] == "all" and self._loses:
            config["ack_policy"] = "explicit"  # nats-server takes all before a lost message for acknowledged
        elif config["ack_policy"] == "all":
            self._keeps_all = True
        _set_filters(config, filters)
        if config["ack_policy"] != "none":
            config["max_ack_pending"] = pick.choice([1000, 1000, 3])
        self._note("consumer", config)
        self._consumers[name] = config
        self._pair.api(f"CONSUMER.CREATE.{self._at}.{name}", {"stream_name": self._at, "config": config})

    # steps -------------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        steps = {
            self._publish: 5,
            self._fetch: 7,
            self._answer: 7,
            self._wait_and_publish: 1,
            self._delete: 2,
            self._purge: 1,
            self._update: 1,
            self._reset: 1,
            self._replace: 1,
            self._stream_info: 1,
        }
        self._choice.choices(list(steps), list(steps.values()))[0]()

    def _name(self) -> str:
        return self._choice.choice(sorted(self._consumers))

    def _publish(self) -> None:
        for _ in range(self._choice.randint(1, 5)):
            subject = self._choice.choice(SUBJECTS)
            self._note("publish", subject)
            headers = b"NATS/1.0\r\nA: b\r\n\r\n" if self._choice.random() < 0.3 else b""
            inbox = self._pair.listen()
            self._pair.publish(subject, b"x" * self._choice.randint(0, 9), headers, reply=inbox)
            self._pair.heard(inbox, least=1, quiet=0, step=f"publish {subject}")
            self._last += 1

    def _fetch(self) -> None:
        name = self._name()
        self._info(name)
        batch = self._choice.randint(1, 6)
        asked: dict[str, Any] = {"batch": batch, "no_wait": True}
        walks = self._consumers[name]["deliver_policy"] == "last_per_subject"
        if self._choice.random() < 0.1 and not walks:  # a server's walk forgets what does not fit
            asked["max_bytes"] = self._choice.randint(1, 200)
        self._note("fetch", name, asked)
        inbox = self._pair.listen()
        self._pair.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self._at}.{name}", _json(asked), reply=inbox)
        self._collect(name, inbox)
        self._pair.leave(inbox)

    def _collect(self, name: str, inbox: str) -> None:
        for place, said in enumerate(self._pair.heard(inbox, step=f"fetch {name}")):
            if said.reply:
                self._open.append((name, inbox, place))

    def _wait_and_publish(self) -> None:
        """A reader waits before there is anything."""
        name = self._name()
        self._info(name)
        self._note("wait", name)
        inbox = self._pair.listen()
        self._pair.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self._at}.{name}", b"2", reply=inbox)
        self._pair.heard(inbox, step="wait")
        self._publish()
        self._collect(name, inbox)
        self._pair.leave(inbox)

    def _answer(self) -> None:
        if not self._open:
            return
        name, inbox, place = self._open.pop(self._choice.randrange(len(self._open)))
        body = self._choice.choice([b"", b"", b"+ACK", b"-NAK", b"-NAK", b"+TERM", b"+TERM why", b"+WPI", b"nonsense"])
        self._note("answer", name, place, body)
        reply = self._pair.listen()
        self._pair.answer(inbox, place, body, reply=reply)
        self._pair.heard(reply, step=f"answer {body!r} of {name}")
        self._pair.leave(reply)

    @property
    def _loses(self) -> bool:
        """Messages go by themselves, or went."""
        limits = (self._stream["max_msgs"], self._stream["max_msgs_per_subject"])
        return limits != (-1, -1) or self._stream["retention"] != "limits" or self._has_deleted

    def _delete(self) -> None:
        state = self._stream_info()
        gone = state.get("deleted") or []
        if self._keeps_all or not state["messages"]:
            return
        there = [seq for seq in range(state["first_seq"], state["last_seq"] + 1) if seq not in gone]
        self._has_deleted = True
        seq = self._choice.choice(there)
        self._note("delete", seq)
        self._pair.api(f"STREAM.MSG.DELETE.{self._at}", {"seq": seq})

    def _purge(self) -> None:
        self._stream_info()
        if self._keeps_all or self._open:
            return
        self._has_deleted = True
        pick = self._choice
        wanted: dict[str, Any] = {}
        if pick.random() < 0.7 and not any("filter_subjects" in config for config in self._consumers.values()):
            wanted["filter"] = pick.choice(["p.a", "p.*", "p.>", "p.c.>"])
        if pick.random() < 0.4:
            wanted["keep"] = pick.randint(1, 3)
        elif pick.random() < 0.5:
            wanted["seq"] = max(1, self._last - pick.randint(0, 4))
        self._note("purge", wanted)
        self._pair.api(f"STREAM.PURGE.{self._at}", wanted)

    def _update(self) -> None:
        name = self._name()
        config = dict(self._consumers[name])
        is_simple = self._stream["retention"] == "limits" and config["deliver_policy"] != "last_per_subject"
        if is_simple and self._choice.random() < 0.5:
            filters = self._choice.choice(FILTERS) or ["p.>"]
            _set_filters(config, filters)
        if config["ack_policy"] != "none":
            config["max_ack_pending"] = self._choice.choice([2, 5, 1000])
        config["description"] = f"changed {len(self.log)}"
        self._note("update", config)
        self._info(name)
        self._consumers[name] = config
        self._pair.api(f"CONSUMER.CREATE.{self._at}.{name}", {"stream_name": self._at, "config": config})
        self._info(name)

    def _reset(self) -> None:
        name = self._name()
        self._info(name)
        wanted = {} if self._choice.random() < 0.5 else {"seq": max(1, self._last - self._choice.randint(0, 5))}
        if self._stream["retention"] != "limits" or self._consumers[name]["deliver_policy"] == "last_per_subject":
            return
        self._note("reset", name, wanted)
        self._open = [item for item in self._open if item[0] != name]
        self._pair.api(f"CONSUMER.RESET.{self._at}.{name}", wanted)
        self._info(name)

    def _replace(self) -> None:
        name = self._name()
        self._note("replace", name)
        self._open = [item for item in self._open if item[0] != name]
        self._pair.api(f"CONSUMER.DELETE.{self._at}.{name}")
        self._stream_info()
        self._make_consumer(int(name[1:]))

    # looking -----------------------------------------------------------------------------------------------------

    def _info(self, name: str) -> None:
        self._pair.settles(f"CONSUMER.INFO.{self._at}.{name}")

    def _stream_info(self) -> dict[str, Any]:
        self._note("info")
        info = self._pair.settles(f"STREAM.INFO.{self._at}", {"deleted_details": True, "subjects_filter": ">"})
        state: dict[str, Any] = info["state"]
        return state


def _set_filters(config: dict[str, Any], filters: list[str]) -> None:
    config.pop("filter_subject", None)
    config.pop("filter_subjects", None)
    if len(filters) == 1:
        config["filter_subject"] = filters[0]
    elif filters:
        config["filter_subjects"] = filters


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def check(pair: Pair, seed: int) -> str:
    """Run one program; how the servers differ, or nothing."""
    pair.clear()
    program = Program(pair, seed)
    try:
        program.run()
    except Differ as difference:
        steps = "\n".join(f"  {step}" for step in program.log)
        return f"seed {seed}\n{steps}\n{difference}"
    return ""


def main() -> int:
    options = argparse.ArgumentParser(prog="make compare", description=__doc__.split("\n")[0])
    options.add_argument("--seeds", default="0:100", help="first:beyond (default 0:100)")
    first, _, beyond = options.parse_args().seeds.partition(":")
    differing = 0
    with tempfile.TemporaryDirectory(prefix="fleetleaf-compare-") as folder, pair_of(Path(folder)) as pair:
        for seed in range(int(first), int(beyond or int(first) + 1)):
            difference = check(pair, seed)
            if difference:
                differing += 1
                print(difference, end="\n\n", flush=True)
    print(f"{differing} programs differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
