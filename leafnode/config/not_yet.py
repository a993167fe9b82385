"""Keys that are read and checked, but that the broker does not act on yet: using one is an error, not a surprise.

Path of the key as in docs/leafnode-config.md, and why or what to do instead. Remove a line here when the broker acts on
the key; nothing else in config/ has to change.
"""

NOT_YET: dict[str, str] = {
    "tls": "clients connect without TLS; put a TLS proxy in front or keep the listener on localhost",
    "websocket": "there is no websocket listener",
    "operator": "use accounts and users in the file instead of JWTs",
    "resolver": "use accounts and users in the file instead of JWTs",
    "resolver_preload": "use accounts and users in the file instead of JWTs",
    "trusted_keys": "use accounts and users in the file instead of JWTs",
    "default_js_domain": "name the domain in the client",
    "mappings": "subjects are not mapped",
    "no_header_support": "headers are always on",
    "connect_error_reports": "the first failure and the recovery of a link are logged",
    "reconnect_error_reports": "the first failure and the recovery of a link are logged",
    "accounts.*.imports": "accounts are isolated",
    "accounts.*.exports": "accounts are isolated",
    "accounts.*.mappings": "subjects are not mapped",
    "leafnodes.tls": "links are accepted without TLS; put a TLS proxy in front",
}
