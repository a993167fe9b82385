"""A sensor publisher for small boards: readings reach a NATS stream once each, however long the network is away.

from picoleaf import Publisher

pub = Publisher.from_file("config.json")

@pub.sensor("temp", every=10, unit="C")
def temp():
    return 21.5

pub.run()
"""

import asyncio
import json
import sys

from .clock import Clock
from .flash import CAPACITY_BYTES, Log
from .link import Link
from .store import LATEST, MUST, Store, ring

__version__ = "1.0.0"

TICK_S = 0.2  # how often the store looks whether something is to be written to flash
SLOWEST = 8  # a sensor that keeps failing is asked at most this many times less often
KEEP = {"latest": LATEST, "must": MUST}
STORE = "queue"
MAX_NAMES = 64  # subjects of one device: what is remembered for each is small, but not nothing
NAMES = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."


class ConfigError(Exception):
    """Something in config.json is missing or wrong; the text says what."""


class Sensor:
    """Something that is read every `every` seconds: `read` returns a number, text, dict or None, or is a coroutine."""

    def __init__(self, name, read, every=10, unit="", keep="must"):
        self.name = name
        self.read = read
        self.every = every
        self.unit = unit
        self.keep = keep
        self.errors = 0
        self.slower = 1

    async def sample(self):
        value = self.read()
        if hasattr(value, "send"):
            value = await value
        return value


class Publisher:
    """One device: its sensors, its store, its link."""

    def __init__(self, settings):
        _check(settings)
        self.settings = settings
        self.device = settings["device"]
        self.sensors = []
        self._names = {}
        self.clock = Clock()
        self.store = Store(self.device, self._log(), self.clock, settings)
        self.link = Link(settings, self.store, self.clock, self.say)
        self._full = asyncio.Event()
        self.store.on_full = self._full.set

    @classmethod
    def from_file(cls, path="config.json"):
        """Reads the settings, and adds the sensors that they list."""
        settings = _read_settings(path)
        publisher = cls(settings)
        for one in settings.get("sensors", []):
            publisher.add(configured(one, settings.get("every", 10)))
        return publisher

    def _log(self):
        folder = self.settings.get("store", STORE)
        if not folder:
            return None
        return Log(folder, int(self.settings.get("store_bytes", CAPACITY_BYTES)))

    def say(self, text):
        print("picoleaf: %s" % text)

    # What a program calls.

    def sensor(self, name, every=10, unit="", keep="must"):
        """Decorator for a function or coroutine function that returns a reading."""

        def register(read):
            self.add(Sensor(name, read, every, unit, keep))
            return read

        return register

    def add(self, sensor):
        self.sensors.append(sensor)

    def publish(self, name, value, unit="", keep="must"):
        """Queues one reading for `tele.DEVICE.NAME` and returns its Ticket. Never waits for network or flash.

        `keep`: "must" until acknowledged, "latest" only the newest, "ring(n)" the newest n. One policy for a name.
        When there is no room something is dropped and counted; ValueError says that the reading cannot be sent at all.
        """
        known = self._names.get(name)
        if known is None:
            check_name(name)
            if len(self._names) >= MAX_NAMES:
                raise ValueError("name %s: there are %d others already" % (name, MAX_NAMES))
            known = self._names[name] = name.encode()
        return self.store.add(known, members(value, unit), policy(keep))

    def subscribe(self, subject, callback):
        """Calls `callback(subject, body)` for each message on `subject`; to be called before run()."""
        self.link.conn.subscribe(subject, callback)

    def stats(self):
        found = self.store.stats()
        found.update({"up": self.link.up, "connects": self.link.connects, "boot": self.store.boot})
        found["errors"] = sum(one.errors for one in self.sensors)
        return found

    def run(self):
        """Until interrupted."""
        try:
            asyncio.run(self.main())
        except KeyboardInterrupt:
            self.say("stopped")

    async def main(self):
        """For programs with tasks of their own: `await publisher.main()` beside them."""
        self.say("device %s, boot %d" % (self.device, self.store.boot))
        tasks = [asyncio.create_task(self._look_after())]
        tasks += [asyncio.create_task(self._sample(one)) for one in self.sensors]
        if self.settings.get("ntp"):
            tasks.append(asyncio.create_task(self.clock.keep_by_ntp(self.settings["ntp"])))
        try:
            await self.link.run()
        finally:
            for task in tasks:
                task.cancel()

    async def _look_after(self):
        said = ""
        while True:
            self.store.tick(self.link.down_ms())
            if self.store.flash_error != said:
                said = self.store.flash_error
                self.say(said or "flash works again")
            self._full.clear()
            try:
                await asyncio.wait_for(self._full.wait(), TICK_S)
            except asyncio.TimeoutError:
                pass

    async def _sample(self, sensor):
        due = self.clock.uptime_ms()
        while True:
            try:
                value = await sensor.sample()
                if value is not None:
                    self.publish(sensor.name, value, sensor.unit, sensor.keep)
                sensor.slower = 1
            except Exception as error:  # a driver may raise anything, and the other sensors must go on
                sensor.errors += 1
                if sensor.slower == 1:
                    self.say("sensor %s: %s: %s" % (sensor.name, type(error).__name__, error))
                sensor.slower = min(SLOWEST, sensor.slower * 2)
            due = max(due + int(sensor.every * 1000 * sensor.slower), self.clock.uptime_ms())
            await asyncio.sleep((due - self.clock.uptime_ms()) / 1000)


def members(value, unit=""):
    """A value as members of a JSON object: `"value":21.5,"unit":"C"`, or `"values":{…}` for a dict."""
    if isinstance(value, dict):
        text = '"values":' + json.dumps(value)
    elif isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        text = '"value":null'  # JSON has no word for it
    else:
        text = '"value":' + json.dumps(value)
    if unit:
        text += ',"unit":' + json.dumps(unit)
    return text.encode()


def policy(keep):
    """The store's number for "must", "latest", "ring(n)" or an int n."""
    if isinstance(keep, int):
        return ring(keep)
    if keep in KEEP:
        return KEEP[keep]
    if keep.startswith("ring(") and keep.endswith(")") and keep[5:-1].isdigit():
        return ring(int(keep[5:-1]))
    raise ValueError('keep %s: use "must", "latest" or "ring(n)"' % keep)


def check_name(name):
    """A sensor's name is the end of a subject."""
    if not name or name[0] == "." or name[-1] == "." or ".." in name or any(one not in NAMES for one in name):
        raise ValueError("name %r: letters, digits, - _ and . between words" % name)


def configured(entry, every):
    """The Sensor that an entry of `sensors` in config.json describes."""
    kind = entry.get("kind", "")
    module = _module(kind)
    read = module.reader(entry)
    return Sensor(
        entry.get("name", kind),
        read,
        entry.get("every", every),
        entry.get("unit", module.UNIT),
        entry.get("keep", "must"),
    )


def _module(kind):
    try:
        return __import__("picoleaf.sensors." + kind, None, None, ["reader"])
    except ImportError as error:
        problem = "sensors: kind %r cannot be used here: %s" % (kind, error)
    raise ConfigError(problem)


def _read_settings(path):
    try:
        with open(path) as source:
            return json.load(source)
    except OSError:
        problem = "not found; copy config.example.json and fill it in"
    except ValueError as error:
        problem = "not valid JSON: %s" % error
    raise ConfigError("%s: %s" % (path, problem))


def _check(settings):
    device = settings.get("device", "")
    if not 1 <= len(device) <= 63 or any(not ("a" <= one <= "z" or "0" <= one <= "9" or one == "-") for one in device):
        raise ConfigError("device: 1 to 63 of a-z 0-9 - are needed, found %r" % device)
    if not settings.get("servers"):
        raise ConfigError('servers: at least one is needed, e.g. ["nats://192.168.1.10:4222"]')


if sys.implementation.name == "micropython":
    import gc

    gc.threshold(16 * 1024)  # collect often and briefly instead of rarely and long
