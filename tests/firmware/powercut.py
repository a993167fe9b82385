"""The log on a board's own file system, with the power cut at every flash operation. Runs on MicroPython only.

    powercut.py FIRMWARE cuts STEP      cuts at every STEP-th of all operations times four ways; prints `ok CUTS`
    powercut.py FIRMWARE cost READINGS  what storing costs: `cost READINGS ERASES PROGRAMMED_BYTES`

littlefs is the C code that runs on a Pico, on a model of NOR flash: programming only clears bits, a block is erased as
a whole, and a cut leaves an operation undone, half done, or done but for a byte.
"""

import sys

sys.path.insert(0, sys.argv[1])

import vfs
from picoleaf.flash import Log
from picoleaf.record import pack

BLOCK_BYTES = 4096
BLOCKS = 24  # enough for the log of this test; a Pico W has 212
FOLDER = "/nor/queue"
CAPACITY_BYTES = 16 * 1024
BATCH = 8
TEARS = 4


class Nor:
    """A block device for VfsLfs2 on `image`; dies at operation number `cut`."""

    def __init__(self, image, cut=-1, tear=0):
        self.image = image
        self.cut = cut
        self.tear = tear
        self.operations = 0
        self.erases = 0
        self.programmed = 0
        self.dead = False

    def readblocks(self, block, buffer, offset=0):
        self._alive()
        at = block * BLOCK_BYTES + offset
        buffer[:] = self.image[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        self.programmed += len(buffer)
        at = block * BLOCK_BYTES + offset
        size = self._due(len(buffer))
        for n in range(size):
            self.image[at + n] &= buffer[n]
        self._alive()

    def ioctl(self, operation, argument):
        if operation == 4:
            return BLOCKS
        if operation == 5:
            return BLOCK_BYTES
        if operation == 6:
            self.erases += 1
            size = self._due(BLOCK_BYTES)
            at = argument * BLOCK_BYTES
            self.image[at : at + size] = b"\xff" * size
            self._alive()
        return 0

    def _due(self, size):
        """How many of `size` bytes get done; after the cut none ever."""
        self._alive()
        if self.operations == self.cut:
            self.dead = True
            size = (0, size // 2, size - 1, size)[self.tear]
        self.operations += 1
        return size

    def _alive(self):
        if self.dead:
            raise OSError(5)


def mounted(device):
    vfs.mount(vfs.VfsLfs2(device, progsize=256, readsize=32, lookahead=32), "/nor")


def unmounted():
    vfs.umount("/nor")


def umount_dead():
    try:
        unmounted()
    except OSError:
        return  # the flash is dead


def batch(first, count=BATCH):
    return [pack(1, first + n, 1_795_181_016_787, True, b"temp", b'"value":21.37,"unit":"C"') for n in range(count)]


def live(durable, settled):
    """A device's life: batches come in, the link comes and goes, small files get merged, the log runs full."""
    log = Log(FOLDER, CAPACITY_BYTES)
    seq = 1
    for turn in range(26):
        log.write(batch(seq), (1, seq), False)
        durable.extend(range(seq, seq + BATCH))
        seq += BATCH
        log.sweep()
        if turn in (6, 22, 23):
            for _ in range(3):
                file, records = log.read()
                for one in records:
                    settled.append(one[1])
                    log.settle(file)
            log.sweep()


def survived(device, durable, settled):
    """Mounts what the cut left, checks it, and goes on writing."""
    mounted(device)
    try:
        log = Log(FOLDER, CAPACITY_BYTES)
        found = []
        while True:
            file, records = log.read()
            if not file:
                break
            found += [one[1] for one in records]
        assert found == sorted(set(found)), "doubled or out of order"
        missing = set(durable) - set(settled) - set(found)
        assert not missing, f"lost {sorted(missing)}"
        log.write(batch(1000), (1, 1000), False)
        assert log.read()[1]
    finally:
        unmounted()


def cuts(step):
    blank = bytearray(b"\xff" * (BLOCKS * BLOCK_BYTES))
    vfs.VfsLfs2.mkfs(Nor(blank), progsize=256, readsize=32, lookahead=32)
    whole = Nor(bytearray(blank))
    mounted(whole)
    live([], [])
    unmounted()
    done = 0
    for case in range(0, whole.operations * TEARS, step):
        device = Nor(bytearray(blank), case // TEARS, case % TEARS)
        durable, settled = [], []
        mounted(device)
        try:
            live(durable, settled)
            raise AssertionError("the cut did not happen")
        except OSError:
            umount_dead()
        survived(Nor(device.image), durable, settled)
        done += 1
    print("ok", done)


def cost(readings):
    image = bytearray(b"\xff" * (BLOCKS * BLOCK_BYTES))
    device = Nor(image)
    vfs.VfsLfs2.mkfs(device, progsize=256, readsize=32, lookahead=32)
    mounted(device)
    log = Log(FOLDER, CAPACITY_BYTES)
    device.erases = device.programmed = 0
    for first in range(1, readings + 1, BATCH):
        log.write(batch(first), (1, first), False)
        log.sweep()
    print("cost", readings, device.erases, device.programmed)
    unmounted()


if sys.argv[2] == "cuts":
    cuts(int(sys.argv[3]))
else:
    cost(int(sys.argv[3]))
