"""Stand between a process and the kernel: hold its fsyncs, or let its writes find the disk full.

No preloaded library and no tracer: the process asks the kernel (seccomp, user notification, Linux 5.5) to hand two
kinds of system calls to us before they are carried out, then becomes the program under test. For each call we answer
"go on" or an error number, when we like. That shows what cannot be seen from outside otherwise: what a program says
before its data is on the disk.

    gate = Gate()
    broker.argv = gate.wrap(broker.argv)      # then start it
    gate.hold_syncs(); ...; gate.syncs; ...; gate.release_syncs()
    gate.disk_is_full(True)                   # writes to a database fail with ENOSPC, syncs go on
"""

import array
import ctypes
import errno
import os
import platform
import select
import socket
import struct
import sys
import threading
from collections.abc import Sequence

Numbers = dict[str, int]
MACHINES: dict[str, tuple[int, Numbers]] = {  # audit architecture; numbers of the system calls
    "x86_64": (
        0xC000003E,
        {
            "seccomp": 317,
            "fsync": 74,
            "fdatasync": 75,
            "pwrite64": 18,
            "write": 1,
            "ftruncate": 77,
            "unlink": 87,
            "unlinkat": 263,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {"seccomp": 277, "fsync": 82, "fdatasync": 83, "pwrite64": 68, "write": 64, "ftruncate": 46, "unlinkat": 35},
    ),
}
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # classic BPF
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
SET_NO_NEW_PRIVS, SET_MODE_FILTER, NEW_LISTENER = 38, 1, 8
RECEIVE, SEND = 0xC0502100, 0xC0182101  # ioctls of the listener
REQUEST_BYTES, CONTINUE = 80, 1
CALLS = ("fsync", "fdatasync", "pwrite64")  # asked for unless somebody wants others
CONNECT_SECONDS = 20.0  # the wrapped program starts on a loaded machine


class Gate:
    """Decides over the fsyncs and positioned writes of one process (and of those that replace it at a restart)."""

    calls: Sequence[str] = CALLS

    def __init__(self) -> None:
        self.syncs = 0  # asked for so far
        self.waiting = 0  # of them, held now
        self._full = False
        self._open = threading.Event()
        self._open.set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind("")  # an abstract name of the kernel's choice
        self._socket.listen(1)
        self._threads: list[threading.Thread] = []
        self._serve(self._accept)

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """`argv`, so that the program runs under this gate."""
        name = self._socket.getsockname()
        return [sys.executable, "-m", "tests.support.syscalls", name[1:].decode(), ",".join(self.calls), *argv]

    def hold_syncs(self) -> None:
        self._open.clear()

    def release_syncs(self) -> None:
        self._open.set()

    def disk_is_full(self, full: bool) -> None:
        self._full = full

    def close(self) -> None:
        """The process has ended."""
        self._open.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> "Gate":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _serve(self, call: object, *args: object) -> None:
        thread = threading.Thread(target=call, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._socket.accept()
            except OSError:
                return
            with end:
                _, [listener], _, _ = socket.recv_fds(end, 1, 1)
                end.sendall(b"!")
            self._serve(self._decide_all, listener)

    def _decide_all(self, listener: int) -> None:
        names = {number: name for name, number in MACHINES[platform.machine()][1].items()}
        while True:
            request = array.array("B", bytes(REQUEST_BYTES))
            try:
                _ioctl(listener, RECEIVE, request)
                ticket, thread, _, number, _, _, *values = struct.unpack_from("=QIIiIQ6Q", request)
                self.decide(listener, ticket, names[number], thread, values)
            except OSError as error:
                if error.errno == errno.ENOENT and _is_alive(listener):  # a signal took the caller away from its call
                    continue
                os.close(listener)  # the process is gone
                return

    def decide(self, listener: int, ticket: int, call: str, thread: int, values: Sequence[int]) -> None:
        """One call of a thread, with its arguments: answer it, now or later."""
        if call == "pwrite64":
            answer(listener, ticket, errno.ENOSPC if self._full else 0)
        else:
            self._serve(self._sync, listener, ticket)

    def _sync(self, listener: int, ticket: int) -> None:
        self.syncs += 1
        self.waiting += 1
        self._open.wait()
        self.waiting -= 1
        try:
            answer(listener, ticket, 0)
        except OSError:
            return  # killed while it was held


def answer(listener: int, ticket: int, error: int) -> None:
    """Let the call be carried out, or fail with an error number."""
    flags = 0 if error else CONTINUE
    _ioctl(listener, SEND, array.array("B", struct.pack("=QqiI", ticket, 0, -error, flags)))


def _is_alive(listener: int) -> bool:
    """Whether anybody can still call."""
    watch = select.poll()
    watch.register(listener, select.POLLIN)
    return not any(events & select.POLLHUP for _, events in watch.poll(0))


def _ioctl(listener: int, request: int, buffer: "array.array[int]") -> None:
    import fcntl

    fcntl.ioctl(listener, request, buffer, True)


# In the process under test, before it becomes what it is.


def install(calls: Sequence[str] = CALLS) -> int:
    """The kernel's listener for our own system calls from now on. Raises OSError where the kernel cannot."""
    architecture, numbers = MACHINES[platform.machine()]
    asked = [numbers[name] for name in calls if name in numbers]  # not every machine has every name
    program = [(LOAD, 0, 0, 4), (JUMP_IF_EQUAL, 1, 0, architecture), (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, 0)]
    for place, number in enumerate(asked):
        program.append((JUMP_IF_EQUAL, len(asked) - place, 0, number))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, NOTIFY)]
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    kept = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    listener = libc.syscall(ctypes.c_long(numbers["seccomp"]), SET_MODE_FILTER, NEW_LISTENER, filter_)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "this kernel has no user notification for system calls (Linux 5.5)")
    return int(listener)


def main(name: str, calls: str, argv: list[str]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(CONNECT_SECONDS)
        end.connect("\0" + name)
        listener = install(calls.split(","))
        socket.send_fds(end, [b"!"], [listener])
        end.recv(1)
    os.close(listener)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
