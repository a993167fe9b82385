"""Keys that are read and checked, but that the broker does not act on yet: using one is an error, not a surprise.

Path of the key as in docs/leafnode-config.md, and why or what to do instead. When the broker acts on a key, remove its
line here and in that document; nothing else in config/ has to change.
"""

CACHE_RESOLVER = "resolver.type cache"
URL_RESOLVER = "resolver URL(…)"
"""Not keys but kinds of values; `links.py` asks for them."""

_NO_ASKING = "use resolver: MEMORY with resolver_preload, or a resolver of type full and push the JWTs to it"

NOT_YET: dict[str, str] = {
    CACHE_RESOLVER: _NO_ASKING,
    URL_RESOLVER: _NO_ASKING,
}
