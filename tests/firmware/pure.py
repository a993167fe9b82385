"""What needs no network, run by each interpreter itself: `pure.py FIRMWARE FOLDER`. A line per check, then `ok`."""

import sys

sys.path.insert(0, sys.argv[1])

import asyncio
import os
import random

from picoleaf import ConfigError, Publisher, check_name, configured, members, nats, policy
from picoleaf.clock import Clock, parse_ntp
from picoleaf.flash import Log
from picoleaf.link import NOTHING, parse_id, parse_server
from picoleaf.record import pack, scan
from picoleaf.store import BATCH_READINGS, LATEST, MUST, RAM_READINGS, Store, ring

FOLDER = sys.argv[2]
count = [0]


def raises(kind, call, *args):
    try:
        call(*args)
    except kind:
        return True
    raise AssertionError(f"{call} did not raise")


def fresh():
    """A folder for a log whose first boot is number 1."""
    count[0] += 1
    for name in ("", "/queue"):
        os.mkdir(f"{FOLDER}/{count[0]}{name}")
    with open(f"{FOLDER}/{count[0]}/queue/boot", "w") as sink:
        sink.write("0")
    return f"{FOLDER}/{count[0]}/queue"


def some(number, boot=1, first=1):
    return [pack(boot, first + n, 1000 * n, n % 2 == 0, b"temp", b'"value":%d' % n) for n in range(number)]


def content(folder, name):
    with open(f"{folder}/{name}", "rb") as source:
        return source.read()


def keys(records):
    return [(one[0], one[1]) for one in records]


# The record.


def check_record_comes_back():
    packed = pack(3, 4_000_000_000, 1_795_181_016_787, True, b"door.front", b'"value":true')
    assert scan(packed, True) == (
        [(3, 4_000_000_000, 1_795_181_016_787, True, b"door.front", b'"value":true')],
        len(packed),
        0,
    )


def check_torn_at_every_byte():
    """Whole records before the tear survive; the rest is seen as damage, or waited for when more may follow."""
    parts = some(3)
    data = b"".join(parts)
    ends = [len(b"".join(parts[:n])) for n in range(4)]  # after none, one, two, three records
    for cut in range(len(data) + 1):
        whole = sum(1 for end in ends[1:] if end <= cut)
        records, used, bad = scan(data[:cut], True)
        assert keys(records) == [(1, n + 1) for n in range(whole)], cut
        assert used == cut
        assert bad == cut - ends[whole]
        records, used, bad = scan(data[:cut], False)
        assert (len(records), used, bad) == (whole, ends[whole], 0), cut


def check_damage_at_every_byte():
    """One wrong byte costs one record at most, and nothing that was never written appears."""
    parts = some(3)
    data = b"".join(parts)
    for at in range(len(data)):
        for wrong in (0x00, 0xFF, 0xB5, data[at] ^ 0x10):
            harmed = bytearray(data)
            harmed[at] = wrong
            records, used, _ = scan(bytes(harmed), True)
            assert used == len(data)
            assert set(keys(records)) <= {(1, 1), (1, 2), (1, 3)}
            if wrong != data[at]:
                assert len(records) >= 2, (at, wrong)


# The log in flash.


def drained(log):
    found = []
    while True:
        file, records = log.read()
        if not file:
            return found
        found += [(file, one) for one in records]


def check_log_survives_a_restart():
    folder = fresh()
    log = Log(folder)
    assert log.boot == 1
    log.write(some(5), (1, 1), False)
    log.write(some(5, first=6), (1, 6), False)
    again = Log(folder)
    assert again.boot == 2
    found = drained(again)
    assert [one[1] for _, one in found] == list(range(1, 11))
    for file, _ in found:
        again.settle(file)
    again.sweep()
    assert sorted(os.listdir(folder)) == ["boot"]
    assert again.bytes == 0


def check_log_keeps_what_is_not_settled():
    folder = fresh()
    log = Log(folder)
    log.write(some(5), (1, 1), False)
    found = drained(log)
    for file, _ in found[:4]:
        log.settle(file)
    log.sweep()
    assert len(drained(Log(folder))) == 5


def check_log_drops_the_oldest():
    log = Log(fresh(), 600)
    for n in range(10):
        log.write(some(4, first=4 * n + 1), (1, 4 * n + 1), False)
    assert log.bytes <= 600
    kept = [one[1] for _, one in drained(log)]
    assert kept[-1] == 40
    assert kept == list(range(kept[0], 41))
    assert log.loss.count == 40 - len(kept)
    assert (log.loss.first, log.loss.last) == ((1, 1), (1, kept[0] - 1))


def check_loss_survives_a_restart():
    folder = fresh()
    log = Log(folder, 300)
    for n in range(4):
        log.write(some(4, first=4 * n + 1), (1, 4 * n + 1), False)
    again = Log(folder)
    assert again.loss.count == log.loss.count > 0
    assert again.loss.first == (1, 1)


def check_small_files_are_merged():
    folder = fresh()
    log = Log(folder)
    for n in range(40):
        log.write(some(4, first=4 * n + 1), (1, 4 * n + 1), False)
        log.sweep()
    assert len(log.files) < 20
    size = log.bytes
    assert size == sum(os.stat(folder + "/" + name)[6] for name in os.listdir(folder) if name.endswith(".q"))
    assert [one[1] for _, one in drained(Log(folder))] == list(range(1, 161))


def check_a_cut_while_merging_leaves_no_doubles():
    folder = fresh()
    log = Log(folder)
    for n in range(4):
        log.write(some(4, first=4 * n + 1), (1, 4 * n + 1), False)
    whole = b"".join([content(folder, file.name) for file in log.files])
    with open(folder + "/1-1.q", "wb") as sink:
        sink.write(whole)
    with open(folder + "/tmp", "wb") as sink:
        sink.write(whole[:50])
    assert [one[1] for _, one in drained(Log(folder))] == list(range(1, 17))


def check_a_torn_file_costs_its_tail():
    folder = fresh()
    log = Log(folder)
    log.write(some(40), (1, 1), False)
    log.write(some(3, first=41), (1, 41), False)
    data = content(folder, "1-1.q")
    with open(folder + "/1-1.q", "wb") as sink:
        sink.write(data[: len(data) - 5])
    again = Log(folder)
    assert [one[1] for _, one in drained(again)] == [n for n in range(1, 44) if n != 40]
    assert again.damaged > 0


def check_an_empty_file_system_begins_somewhere():
    folder = FOLDER + "/deep/er"
    first = Log(folder).boot
    assert 1 <= first < 10000
    assert Log(folder).boot == first + 1


def check_a_damaged_boot_counter_stays_above_the_readings():
    folder = fresh()
    log = Log(folder)
    log._put("boot", [b"7"])
    log.write(some(3, boot=7), (7, 1), False)
    with open(folder + "/boot", "w") as sink:
        sink.write("x")
    assert Log(folder).boot >= 8


# The store.


def new_store(folder=None, **options):
    return Store("pico-1", Log(folder or fresh(), options.get("capacity", 100_000)), Clock(), options)


def taken(store):
    found = []
    while True:
        ticket = store.take()
        if ticket is None:
            return found
        found.append(ticket)


def check_policies():
    store = new_store()
    first = store.add(b"a", b"1", LATEST)
    second = store.add(b"a", b"2", LATEST)
    store.add(b"b", b"3", MUST)
    rung = [store.add(b"c", b"%d" % n, ring(2)) for n in range(4)]
    assert (first.state, second.state) == ("dropped", "queued")
    assert [one.state for one in rung] == ["dropped", "dropped", "queued", "queued"]
    assert [one.value for one in taken(store)] == [b"2", b"3", b"2", b"3"]
    assert store.stats()["superseded"] == 3


def check_full_ram_drops_what_need_not_be_kept_first():
    store = new_store()
    store.add(b"a", b"0", MUST)
    other = store.add(b"b", b"0", ring(5))
    for _ in range(RAM_READINGS - 1):
        store.add(b"a", b"1", MUST)
    assert other.state == "dropped"
    assert store.loss_count == 0
    store.add(b"a", b"2", MUST)
    assert store.loss_count == 1
    assert store.room == 0


def check_the_order_is_that_of_the_numbers():
    """In flight, then flash, then RAM; each ticket tells what became of it."""
    store = new_store(spill_after_s=0)
    all_of = [store.add(b"a", b"%d" % n, MUST) for n in range(40)]
    flying = [store.take() for _ in range(10)]
    store.give_back(flying)
    store.tick(1)
    assert {one.state for one in all_of} == {"stored"}
    all_of += [store.add(b"a", b"%d" % n, MUST) for n in range(40, 50)]
    out = taken(store)
    assert [one.key[1] for one in out] == list(range(1, 51))
    assert [one.doubt for one in out] == [True] * 40 + [False] * 10
    assert {one.state for one in all_of} == {"sent"}
    for one in out[:45]:
        store.settle(one)
    assert [one.state for one in all_of] == ["acked"] * 45 + ["sent"] * 5
    store.give_back(out[45:])
    store.tick(0)
    assert store.stats()["flash_bytes"] == 0


def check_a_restart_continues_in_order():
    folder = fresh()
    store = new_store(folder, spill_after_s=0)
    for n in range(30):
        store.add(b"a", b"%d" % n, MUST)
    flying = [store.take() for _ in range(5)]
    store.give_back(flying)
    store.tick(1)
    for n in range(30):
        store.add(b"a", b"%d" % n, MUST)
        store.tick(1)
    store.settle(store.take())
    store.tick(1)
    again = new_store(folder)
    again.add(b"a", b"60", MUST)
    out = [one.key for one in taken(again)]
    assert out[-1] == (2, 1)
    # What was not in a full batch was in RAM only; the acknowledged one may be sent again: the link sorts that out.
    assert out[:-1] == sorted(out[:-1])
    assert set(out[:-1]) >= {(1, n) for n in range(2, 61 - BATCH_READINGS)}


def check_a_full_log_gives_up_its_readings_in_ram_too():
    store = new_store(spill_after_s=0, capacity=700)
    held = [store.add(b"a", b'"value":0', MUST) for n in range(4)]
    store.take()
    flying = held[:1]
    store.give_back(flying)
    for _ in range(60):
        store.add(b"a", b'"value":0', MUST)
        store.tick(1)
    assert held[0].state == "dropped"
    out = taken(store)
    assert out[-1].key == (1, 64)
    assert len(out) + store.loss_count == 64


class Life:
    """A store and the link's rules over a stream in a list, with everything that can go wrong, by a seed."""

    def __init__(self, seed):
        random.seed(seed)
        self.folder = fresh()
        self.stream = []  # (name, key) as they arrived
        self.promised = set()  # acknowledged, or in flash when the power went
        self.start()

    def start(self):
        self.store = new_store(self.folder, spill_after_s=0)
        self.flying = []
        self.tickets = []
        self.floor = {}

    def publish(self):
        for _ in range(random.randrange(1, 20)):
            if self.store.room:
                self.tickets.append(self.store.add(random.choice((b"a", b"b", b"c")), b'"value":1', MUST))

    def send(self):
        for _ in range(random.randrange(1, 20)):
            ticket = self.store.take() if len(self.flying) < 16 else None
            if ticket is None:
                return False
            if ticket.doubt and ticket.key <= self.last(ticket.name):
                self.store.settle(ticket)
            else:
                self.flying.append([ticket, False])
        return True

    def last(self, name):
        """Asked once a connection, as link.py does."""
        if name not in self.floor:
            self.floor[name] = max([key for other, key in self.stream if other == name] + [NOTHING])
        return self.floor[name]

    def arrive(self, count):
        for pair in self.flying:
            if not pair[1] and count:
                count -= 1
                pair[1] = True
                self.stream.append((pair[0].name, pair[0].key))

    def acknowledge(self):
        self.arrive(random.randrange(17))
        while self.flying and self.flying[0][1] and random.randrange(8):
            ticket = self.flying.pop(0)[0]
            self.store.settle(ticket)
            self.promised.add(ticket.key)

    def disconnect(self):
        self.arrive(random.randrange(17))
        self.store.give_back([ticket for ticket, _ in self.flying])
        self.flying = []
        self.floor = {}

    def tick(self):
        self.store.tick(random.randrange(2))

    def power_cut(self):
        self.arrive(random.randrange(17))
        for ticket in self.tickets:
            if ticket.state in ("stored", "acked") or (ticket.state == "sent" and ticket.home):
                self.promised.add(ticket.key)
        self.start()

    def finish(self):
        self.disconnect()
        while self.send() or self.flying:
            self.arrive(16)
            while self.flying:
                self.store.settle(self.flying.pop(0)[0])
        self.store.tick(0)
        self.promised.update(ticket.key for ticket in self.tickets)


def check_random_lives():
    for seed in range(30):
        life = Life(seed)
        steps = [life.publish, life.send, life.acknowledge, life.publish, life.send, life.acknowledge, life.tick]
        for _ in range(120):
            luck = random.randrange(24)
            if luck == 0:
                life.power_cut()
            elif luck == 1:
                life.disconnect()
            else:
                steps[luck % len(steps)]()
        life.finish()
        arrived = [key for _, key in life.stream]
        assert len(arrived) == len(set(arrived)), seed
        assert life.promised <= set(arrived), (seed, sorted(life.promised - set(arrived)))
        for name in (b"a", b"b", b"c"):
            of_name = [key for other, key in life.stream if other == name]
            assert of_name == sorted(of_name), (seed, name)
        assert life.store.stats()["flash_bytes"] == 0, seed


def check_values():
    assert members(21.5, "C") == b'"value":21.5,"unit":"C"'
    assert members(float("nan")) == members(float("inf")) == b'"value":null'
    assert members({"x": 1}) == b'"values":{"x": 1}'
    assert members('a"b') == b'"value":"a\\"b"'
    assert (policy("must"), policy("latest"), policy("ring(7)"), policy(3)) == (MUST, LATEST, 7, 3)
    raises(ValueError, policy, "always")
    for name in ("", "a b", ".a", "a.", "a..b", "a*", "a>"):
        raises(ValueError, check_name, name)
    check_name("door.front-2")
    raises(ValueError, new_store().add, b"a", b"x" * 900, MUST)


def check_settings():
    good = {"device": "pico-1", "servers": ["127.0.0.1"], "store": ""}
    Publisher(good)
    for wrong in ({"device": "Pico 1"}, {"device": ""}, {"servers": []}):
        settings = dict(good)
        settings.update(wrong)
        raises(ConfigError, Publisher, settings)
    raises(ConfigError, Publisher.from_file, FOLDER + "/none.json")
    assert parse_server("nats://u:p@h:4333/") == ("h", 4333, "u", "p")
    assert parse_server("10.0.0.1") == ("10.0.0.1", 4222, "", "")
    raises(ValueError, parse_server, "nats://h:x")


class Machine:
    """The board's `machine` module, as far as the chip's own sensor needs it."""

    class ADC:
        def __init__(self, channel):
            assert channel == 4

        def read_u16(self):
            return 14_000  # 0.705 V


def check_the_chips_own_sensor():
    sys.modules["machine"] = Machine
    from picoleaf.sensors import onboard

    assert onboard.reader({})() == 27.6
    assert onboard.reader({"offset": -1.5})() == 26.1


def check_the_simulated_sensor():
    sensor = configured({"kind": "simulated", "name": "oven", "middle": 200, "swing": 5, "keep": "latest"}, 3)
    values = [sensor.read() for _ in range(120)]
    assert (sensor.name, sensor.every, sensor.unit, sensor.keep) == ("oven", 3, "C", "latest")
    assert 195 <= min(values) < 196
    assert 204 < max(values) <= 205


def check_ids_in_headers():
    assert parse_id(b"NATS/1.0\r\nNats-Msg-Id: pico-1-3-17\r\n\r\n", "pico-1") == (3, 17)
    for other in (b"pico-2-3-17", b"pico-1", b"x", b"pico-1-a-b", b"pico-1-3-17-4"):
        assert parse_id(b"NATS/1.0\r\nNats-Msg-Id: " + other + b"\r\n\r\n", "pico-1") == NOTHING


def check_time():
    clock = Clock()
    clock.set(1_800_000_000_000)
    assert 0 <= clock.epoch_ms(clock.uptime_ms()) - 1_800_000_000_000 < 5000
    answer = bytes([0x1C, 1]) + 38 * b"\0" + (2208988800 + 1_700_000_000).to_bytes(4, "big") + b"\x80\0\0\0"
    assert parse_ntp(answer) == 1_700_000_000_500
    assert parse_ntp(answer[:40]) is None
    assert parse_ntp(b"\x1b" + answer[1:]) is None


# The connection's parser.


class Feed:
    """A stream that delivers `data` in pieces of `step` bytes."""

    def __init__(self, data, step):
        self.data = data
        self.step = step

    async def readinto(self, view):
        size = min(self.step, len(view), len(self.data))
        view[:size] = self.data[:size]
        self.data = self.data[size:]
        return size

    async def read(self, limit):
        size = min(self.step, limit)
        data, self.data = self.data[:size], self.data[size:]
        return data


def parsed(make, step):
    """What a connection makes of the bytes that `make(inbox)` returns: acknowledgements, messages, the end."""
    conn = nats.Connection(lambda: 1)
    acks, messages = [], []
    conn.on_ack = lambda token, seq, error: acks.append((token, seq, error))
    conn.subscribe("cmd.>", lambda subject, body: messages.append((subject, body)))
    conn._reader = Feed(make(conn.inbox), step)
    try:
        asyncio.run(conn.receive())
    except (OSError, nats.ServerError) as end:
        return acks, messages, str(end), conn


def reply(inbox, token, body):
    return b"MSG %s%d 1 %d\r\n%s\r\n" % (inbox, token, len(body), body)


def everything(inbox):
    parts = [
        b"PING\r\n+OK\r\nPONG\r\n",
        reply(inbox, 7, b'{"stream":"TELEMETRY","seq":42}'),
        reply(inbox, 8, b'{"stream":"TELEMETRY", "seq": 43,"duplicate": true}'),
        reply(inbox, 9, b'{"error":{"code":503},"stream":"","seq":0}'),
        b"HMSG %s10 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n" % inbox,
        b"INFO {" + b"x" * 5000 + b"}\r\n",
        b"MSG cmd.on 2 3\r\nyes\r\n",
        b"MSG cmd.big 2 5000\r\n" + b"y" * 5000 + b"\r\n",
        b"HMSG cmd.off 2 reply 12 14\r\nNATS/1.0\r\n\r\nno\r\n",
        b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n",
        b"-ERR 'Stale Connection'\r\n",
    ]
    return b"".join(parts)


def check_parser_at_every_split():
    steps = list(range(1, 40))
    steps.extend([64, 100, 1000, 1023, 1024, 2047, 2048, 9000])
    for step in steps:
        acks, messages, end, conn = parsed(everything, step)
        assert acks[:2] == [(7, 42, ""), (8, 43, "")], (step, acks)
        assert [one[:2] for one in acks[2:]] == [(9, 0), (10, 0)]
        assert messages == [("cmd.on", b"yes"), ("cmd.off", b"no")], step
        assert end == "'Stale Connection'"
        assert (conn.stream, conn.skipped, conn._pongs_due) == ("TELEMETRY", 2, 1), step


def check_frames_around_the_size_of_the_buffer():
    for size in range(nats.RX_BYTES - 40, nats.RX_BYTES + 10):
        frame = b"MSG cmd.a 2 %d\r\n%s\r\nMSG cmd.b 2 1\r\nz\r\n" % (size, b"q" * size)
        for step in (7, 1000, 5000):
            _, messages, _, conn = parsed(lambda inbox, frame=frame: b"PING\r\n" + frame, step)
            assert messages[-1] == ("cmd.b", b"z"), (size, step)
            assert len(messages) == 2 - conn.skipped


def main():
    checks = sorted(
        (name, check) for name, check in globals().items() if name.startswith("check_") and name != "check_name"
    )
    for name, check in checks:
        check()
        print(name)
    print("ok", len(checks))


main()
