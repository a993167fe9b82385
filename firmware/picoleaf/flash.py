"""The log in flash: readings wait here, oldest first, until the server has them.

Every spill writes one new file and never touches it again (on littlefs an append rewrites the last block, a new small
file is nearly free). A file is named after its first reading, `BOOT-SEQ.q`, so that the names sort into the order of
the readings. Small files are merged into one block when enough of them lie around; a reading that a power cut left in
two files is recognised by its number. When the log is full the oldest file goes, and what was in it is counted.

The folder also holds `boot` (counts the starts of this device) and `lost` (what is still to be reported as lost). Both
are replaced by renaming, which littlefs and POSIX do whole or not at all.
"""

import json
import os

from . import record

ENOSPC = 28  # MicroPython's errno module does not name it
EEXIST = 17
FIRST_BOOTS = 9999  # where counting may begin
CHUNK_BYTES = 1024  # read at once; more than the largest record
SMALL_BYTES = 1024  # a file below this is worth merging
MERGE_FILES = 8  # so many small files in a row are merged: littlefs slows down with every file
MERGED_BYTES = 4096  # a merged file is at most one flash block
CAPACITY_BYTES = 256 * 1024  # default: less than a third of a Pico W's file system


class File:
    """One file of the log. `waiting` counts readings that were handed out and are not settled yet."""

    def __init__(self, key, size):
        self.key = key
        self.size = size
        self.offset = 0
        self.waiting = 0
        self.gone = False

    @property
    def name(self):
        return "%d-%d.q" % self.key

    @property
    def spent(self):
        return self.offset >= self.size and self.waiting <= 0


class Loss:
    """Readings that are gone for good: how many, from which to which."""

    def __init__(self, count=0, first=None, last=None):
        self.count = count
        self.first = first
        self.last = last

    def add(self, key, count=1, last=None):
        last = last or key
        self.first = key if self.first is None or key < self.first else self.first
        self.last = last if self.last is None or last > self.last else self.last
        self.count += count

    def subtract(self, count):
        self.count -= count
        if self.count <= 0:
            self.count, self.first, self.last = 0, None, None


class Log:
    """The files of one folder. Only one Log may use a folder."""

    def __init__(self, folder, capacity=CAPACITY_BYTES):
        self.folder = folder
        self.capacity = capacity
        self.files = []
        self.bytes = 0
        self.damaged = 0
        self.loss = Loss()
        self._at = 0
        self._last = (0, 0)
        _make(folder)
        self._load()
        self.boot = self._next_boot()

    # Writing.

    def write(self, records, key, held):
        """Stores packed records, the first of which is `key`. `held` says that they also stay in RAM.

        Makes room by dropping the oldest files. Raises OSError when the file system refuses even then.
        """
        size = sum(len(one) for one in records)
        while self.files and self.bytes + size > self.capacity:
            self.drop()
        while True:
            try:
                self._put("%d-%d.q" % key, records)
                break
            except OSError as error:
                if error.errno != ENOSPC or not self.files:
                    raise
                self.drop()
        file = File(key, size)
        if held:
            file.offset, file.waiting = size, len(records)
        self._insert(file)
        return file

    def _insert(self, file):
        at = len(self.files)
        while at and self.files[at - 1].key > file.key:
            at -= 1
        self.files.insert(at, file)
        if at < self._at or (at == self._at and file.offset >= file.size):
            self._at += 1
        self.bytes += file.size

    def drop(self):
        """Gives up the oldest file and counts the readings in it that were not handed out."""
        file = self.files[0]
        while True:
            found, records = self._take(file)
            if not found:
                break
            for one in records:
                self.loss.add((one[0], one[1]))
        file.gone = True
        self._remove(file)
        self.save_loss()

    # Reading.

    def read(self):
        """The next readings in order and the file they are from; (None, []) when there are none."""
        while self._at < len(self.files):
            file = self.files[self._at]
            found, records = self._take(file)
            if not found:
                self._at += 1
            elif records:
                file.waiting += len(records)
                return file, records
        return None, []

    def unread(self):
        return self._at < len(self.files)

    def _take(self, file):
        """Advances over one chunk of `file`: whether there was one, and the readings not seen before in it."""
        if file.offset >= file.size:
            return False, []
        try:
            with open(self._path(file.name), "rb") as source:
                source.seek(file.offset)
                data = source.read(CHUNK_BYTES)
        except OSError:
            data = b""
        final = len(data) < CHUNK_BYTES or file.offset + len(data) >= file.size
        records, used, bad = record.scan(data, final)
        self.damaged += bad
        file.offset = file.size if final and used >= len(data) else file.offset + used
        fresh = []
        for one in records:
            if (one[0], one[1]) > self._last:
                self._last = (one[0], one[1])
                fresh.append(one)
        return True, fresh

    # After the server has them.

    def settle(self, file):
        """One reading of `file` needs no keeping any more."""
        file.waiting -= 1

    def sweep(self):
        """Deletes what is spent and merges what is small. May take tens of milliseconds on a board."""
        for file in [one for one in self.files[: self._at + 1] if one.spent]:
            self._remove(file)
        self._merge()

    def _merge(self):
        run = []
        size = 0
        for file in self.files[self._at + 1 :]:
            if file.offset or file.waiting or file.size >= SMALL_BYTES or size + file.size > MERGED_BYTES:
                if len(run) >= MERGE_FILES:
                    break
                run, size = [], 0
            if file.size < SMALL_BYTES and not file.offset and not file.waiting:
                run.append(file)
                size += file.size
        if len(run) >= MERGE_FILES:
            self._join(run)

    def _join(self, run):
        """The first of `run` takes over the content of all. A cut in between leaves doubles, which reading skips."""
        with open(self._path("tmp"), "wb") as sink:
            for file in run:
                with open(self._path(file.name), "rb") as source:
                    sink.write(source.read())
        os.rename(self._path("tmp"), self._path(run[0].name))
        for file in run[1:]:
            run[0].size += file.size
            self.bytes += file.size
            self._remove(file)

    def _remove(self, file):
        at = self.files.index(file)
        self.files.pop(at)
        if at < self._at:
            self._at -= 1
        self.bytes -= file.size
        try:
            os.remove(self._path(file.name))
        except OSError:
            pass  # gone already: what we want

    # What survives a restart beside the readings.

    def save_loss(self):
        loss = self.loss
        text = json.dumps([loss.count, loss.first or [0, 0], loss.last or [0, 0]])
        self._put("lost", [text.encode()])

    def _next_boot(self):
        try:
            number = int(self._text("boot")) + 1
        except (OSError, ValueError):  # an empty file system: begin somewhere, to be told from an earlier life
            number = 1 + int.from_bytes(os.urandom(4), "big") % FIRST_BOOTS
        if self.files:  # the counter is damaged but readings survived: stay above them
            number = max(number, self.files[-1].key[0] + 1)
        self._put("boot", [b"%d" % number])
        return number

    def _load(self):
        for name in os.listdir(self.folder):
            if name.endswith(".q"):
                boot, seq = name[:-2].split("-")
                self.files.append(File((int(boot), int(seq)), os.stat(self._path(name))[6]))
        self.files.sort(key=lambda file: file.key)
        self.bytes = sum(file.size for file in self.files)
        try:
            count, first, last = json.loads(self._text("lost"))
            if count:
                self.loss = Loss(count, tuple(first), tuple(last))
        except (OSError, ValueError):
            pass  # nothing was lost

    # Files.

    def _path(self, name):
        return self.folder + "/" + name

    def _text(self, name):
        with open(self._path(name)) as source:
            return source.read()

    def _put(self, name, parts):
        """Writes a whole file or none."""
        with open(self._path("tmp"), "wb") as sink:
            for part in parts:
                sink.write(part)
        os.rename(self._path("tmp"), self._path(name))


def _make(folder):
    """`mkdir -p`."""
    path = "/" if folder.startswith("/") else ""
    for part in folder.split("/"):
        if part:
            path += part
            try:
                os.mkdir(path)
            except OSError as error:
                if error.errno != EEXIST:
                    raise
            path += "/"
