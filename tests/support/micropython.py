"""The real MicroPython, so that the firmware is tested by the interpreter it is written for.

A `micropython` on PATH is used as it is. Otherwise Debian's package (unix port, 1.25) is fetched with the machine's own
apt into a folder of the project: the machine's sources with the suite replaced, lists and cache of our own, unpacked
with `dpkg -x`, started through its own dynamic loader. Nothing of the system is touched and no root is needed.
The 32-bit build comes along: its words and heap blocks have the size of a Pico's, so heap figures mean something.

`python -m tests.support.micropython --fetch` says in one line what there is, or plainly why there is nothing.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "micropython"
SUITE = "trixie"  # the first Debian release whose MicroPython (1.25) has the asyncio and littlefs of today's boards
PACKAGES = ["micropython", "libmbedtls21", "libmbedx509-7", "libmbedcrypto16", "libffi8", "libc6"]
APT_SECONDS = 120  # one apt run: an index of 10 MB and six small packages over a slow line
PROBE_SECONDS = 20  # starting an interpreter on a loaded machine
PICO_HEAP = "180K"  # what a Pico W has left for Python, with room for the user's drivers


@dataclass(frozen=True)
class Build:
    """One architecture of the Debian packages."""

    loader: str
    triplet: str


BUILDS = {
    "amd64": Build("ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
    "i386": Build("ld-linux.so.2", "i386-linux-gnu"),
    "arm64": Build("ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
    "armhf": Build("ld-linux-armhf.so.3", "arm-linux-gnueabihf"),
}
WANTED = {"amd64": ["amd64", "i386"], "arm64": ["arm64", "armhf"], "i386": ["i386"], "armhf": ["armhf"]}


@dataclass(frozen=True)
class Interpreter:
    """An interpreter that was started and asked who it is."""

    path: Path
    version: str
    bits: int

    @property
    def name(self) -> str:
        return f"mp{self.bits}"

    def command(self, *args: str, heap: str = "") -> list[str]:
        """The argv that runs `args`; `heap` as in "180K" is doubled where a heap block has twice the size."""
        if heap and self.bits == 64:
            heap = re.sub(r"\d+", lambda digits: str(2 * int(digits[0])), heap)
        return [str(self.path), *(["-X", f"heapsize={heap}"] if heap else []), *args]

    def __str__(self) -> str:
        return f"MicroPython {self.version} {self.bits}-bit ({self.path})"


class NotAvailable(Exception):  # noqa: N818  it is a state of the machine, not a mistake
    """Why there is no MicroPython; one sentence for the reader of a test run."""


def find() -> list[Interpreter]:
    """What is there already, the 32-bit one first; nothing is fetched."""
    on_path = shutil.which("micropython")
    paths = [Path(on_path)] if on_path else [CACHE / name / "micropython" for name in sorted(BUILDS, reverse=True)]
    found = [interpreter for path in paths if path.exists() and (interpreter := probe(path))]
    return sorted(found, key=lambda interpreter: interpreter.bits)


def why_not() -> str:
    """The sentence of the last failed fetch, or what to do."""
    note = CACHE / "why-not"
    return note.read_text() if note.exists() else "run: python -m tests.support.micropython --fetch"


def probe(path: Path) -> Interpreter | None:
    """Starts it; None when that fails or it is something else."""
    code = "import sys; print(sys.implementation[0], '%d.%d.%d' % sys.implementation[1][:3], sys.maxsize > 2**31)"
    try:
        done = subprocess.run(
            [str(path), "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS, check=True
        )
        name, version, wide = done.stdout.split()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(path, version, 64 if wide == "True" else 32) if name == "micropython" else None


# Fetching.


def fetch() -> list[Interpreter]:
    """`find()`, after getting what is missing. Raises NotAvailable."""
    have = find()
    if shutil.which("micropython") or len(have) >= len(WANTED.get(_architecture(), [])) > 0:
        return have
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "why-not").unlink(missing_ok=True)
    reasons = []
    for name in WANTED.get(_architecture(), []):
        if not (CACHE / name / "micropython").exists():
            try:
                _build(name)
            except NotAvailable as reason:
                reasons.append(f"{name}: {reason}")
    have = find()
    if not have:
        sentence = "; ".join(reasons) or f"no build for this machine ({_architecture() or 'not a Debian'})"
        (CACHE / "why-not").write_text(sentence)
        raise NotAvailable(sentence)
    return have


def _architecture() -> str:
    try:
        return subprocess.run(
            ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _build(name: str) -> None:
    """Downloads and unpacks one architecture, then writes the wrapper that starts it."""
    if not shutil.which("apt-get"):
        raise NotAvailable("apt-get is missing; install MicroPython 1.25 or newer and put it on PATH")
    home = CACHE / name
    shutil.rmtree(home, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "debs", "root"):
        (home / folder).mkdir(parents=True)
    (home / "sources.list").write_text(derived_source(_source_texts()))
    (home / "status").write_text("")
    options = _apt_options(home, name)
    _run(["apt-get", *options, "update"], home)
    _run(["apt-get", *options, "download", *(f"{package}:{name}" for package in PACKAGES)], home / "debs")
    for deb in sorted((home / "debs").glob("*.deb")):
        _run(["dpkg", "-x", str(deb), str(home / "root")], home)
    _write_wrapper(home, BUILDS[name])
    for spent in ("lists", "cache", "debs"):
        shutil.rmtree(home / spent)


def _apt_options(home: Path, architecture: str) -> list[str]:
    settings = {
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::Lists": home / "lists",
        "Dir::State::status": home / "status",
        "Dir::Cache": home / "cache",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Get::List-Cleanup": "0",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
    }
    return ["-q", *(part for key, value in settings.items() for part in ("-o", f"{key}={value}"))]


def _source_texts() -> list[str]:
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return [
        file.read_text(errors="replace") for file in files if file.suffix in (".list", ".sources") and file.is_file()
    ]


def derived_source(texts: list[str]) -> str:
    """One `deb` line for our suite, taken from the machine's own Debian source. Raises NotAvailable."""
    for text in texts:
        line = _from_deb822(text) or _from_lines(text)
        if line:
            return line + "\n"
    raise NotAvailable(
        "apt has no Debian archive among its sources; install MicroPython 1.25 or newer and put it on PATH"
    )


def _from_deb822(text: str) -> str:
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
        address = (fields.get("URIs") or "").split()
        if address and _is_debian(address[0], fields.get("Suites", "")):
            signed = fields.get("Signed-By", "")
            option = f"[signed-by={signed}] " if signed.startswith("/") else ""
            return f"deb {option}{address[0]} {SUITE} main"
    return ""


def _from_lines(text: str) -> str:
    for option, address, suite in re.findall(r"^deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)", text, re.MULTILINE):
        if _is_debian(address, suite):
            signed = re.search(r"signed-by=(\S+?)[\s\]]", option)
            return f"deb {f'[signed-by={signed[1]}] ' if signed else ''}{address} {SUITE} main"
    return ""


def _is_debian(address: str, suite: str) -> bool:
    """The main archive, not its security or backports parts nor somebody else's packages."""
    path = address.rstrip("/")
    return path.endswith("/debian") and bool(suite) and "security" not in suite.split()[0]


def _run(argv: list[str], where: Path) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        done = subprocess.run(argv, cwd=where, env=environment, capture_output=True, text=True, timeout=APT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAvailable(f"{argv[0]} {argv[-1]}: {type(error).__name__}") from error
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:", "dpkg"))]
        raise NotAvailable(f"{argv[0]} failed: {' '.join(complaints)[:300] or done.returncode}")


def _write_wrapper(home: Path, build: Build) -> None:
    root = home / "root"
    loaders = sorted(root.rglob(build.loader))
    if not loaders:
        raise NotAvailable(f"the unpacked libc6 has no {build.loader}")
    libraries = ":".join(str(root / base / build.triplet) for base in ("usr/lib", "lib"))
    wrapper = home / "micropython"
    wrapper.write_text(
        f'#!/bin/sh\nexec "{loaders[0]}" --library-path "{libraries}" "{root}/usr/bin/micropython" "$@"\n'
    )
    wrapper.chmod(0o755)
    if probe(wrapper) is None:
        wrapper.unlink()
        raise NotAvailable(f"the {build.triplet} build does not start on this kernel")


def main(arguments: list[str]) -> None:
    try:
        found = fetch() if "--fetch" in arguments else find()
        print("; ".join(map(str, found)) or f"MicroPython: not available: {why_not()}")
    except NotAvailable as reason:
        print(f"MicroPython: NOT AVAILABLE, the firmware will be tested under CPython only: {reason}")


if __name__ == "__main__":
    main(sys.argv[1:])
