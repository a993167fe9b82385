"""Making a hub ready: its streams and buckets, and the sites it collects from."""

from dataclasses import dataclass

from agent.errors import UsageError
from agent.fleet import layout
from agent.fleet.hub import ApiError, Hub
from agent.fleet.reading import MissingError


@dataclass(frozen=True, slots=True)
class Step:
    """What was done to one stream: `created`, `kept` or `conflict` (with the reason)."""

    name: str
    what: str
    detail: str = ""


async def init(hub: Hub) -> list[Step]:
    """Create what is missing, keep what is there; nothing of an existing stream is changed."""
    return [await _ensure(hub, wanted) for wanted in layout.streams()]


async def _ensure(hub: Hub, wanted: layout.Config) -> Step:
    name = wanted["name"]
    found = await hub.stream(name)
    if found is None:
        try:
            await hub.api(f"STREAM.CREATE.{name}", wanted)
        except ApiError as error:
            return Step(layout.title(name), "conflict", str(error))
        return Step(layout.title(name), "created")
    if differs := layout.conflicts(wanted, found):
        return Step(layout.title(name), "conflict", "; ".join(differs))
    return Step(layout.title(name), "kept")


async def hub_domain(hub: Hub) -> str:
    """The JetStream domain that the hub calls its own; sites need it to have one."""
    return str((await hub.api("INFO")).get("domain") or "")


async def add_site(hub: Hub, domain: str) -> list[Step]:
    """Make the site's streams sources of the hub's streams of the same name."""
    return [await _change_sources(hub, stream, domain, add=True) for stream in layout.SOURCED]


async def remove_site(hub: Hub, domain: str) -> list[Step]:
    """Stop collecting from the site. What was collected stays."""
    return [await _change_sources(hub, stream, domain, add=False) for stream in layout.SOURCED]


async def _change_sources(hub: Hub, stream: str, domain: str, *, add: bool) -> Step:
    check_domain(domain)
    found = await hub.stream(stream)
    if found is None:
        raise MissingError(f"the hub has no {layout.title(stream)}: run: fleet init")
    wanted = layout.with_site(found, domain) if add else layout.without_site(found, domain)
    title = f"{layout.title(stream)} from {domain}"
    if wanted == found:
        return Step(title, "kept" if add else "not there")
    await hub.api(f"STREAM.UPDATE.{stream}", wanted)
    return Step(title, "added" if add else "removed")


@dataclass(frozen=True, slots=True)
class Source:
    """How far the hub is with one stream of one site."""

    domain: str
    stream: str
    behind: int | None
    idle_seconds: float | None
    error: str


async def sites(hub: Hub) -> list[Source]:
    """Every site the hub collects from, stream by stream."""
    found = []
    for stream in layout.SOURCED:
        info = await hub.api(f"STREAM.INFO.{stream}")
        for source in info.get("sources") or ():
            tokens = ((source.get("external") or {}).get("api") or "").split(".")
            if len(tokens) != 3:
                continue
            active = source.get("active")
            error = (source.get("error") or {}).get("description") or ""
            idle = active / layout.NS if isinstance(active, int) and active >= 0 else None
            found.append(Source(tokens[1], stream, source.get("lag"), idle, error))
    return sorted(found, key=lambda source: (source.domain, source.stream))


def check_domain(domain: str) -> str:
    """A JetStream domain is one subject token."""
    if not domain or any(letter in " .*>\t\r\n" for letter in domain):
        raise UsageError(
            f"{domain!r} is not a JetStream domain: one word without '.', '*', '>' and blanks, e.g. site-3"
        )
    return domain
