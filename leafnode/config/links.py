"""The keys about other servers and other transports: leafnodes, remotes, TLS, websocket, cluster, resolver. Pure."""

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from leafnode.config.access import authorization, nkey
from leafnode.config.grammar import Value
from leafnode.config.options import (
    DEFAULT_LEAF_PORT,
    ClusterConfig,
    LeafAuthorization,
    LeafnodesConfig,
    LeafRemote,
    LeafUser,
    ProxyConfig,
    ResolverConfig,
    ServerUrl,
    TlsConfig,
    WebsocketConfig,
)
from leafnode.config.section import (
    Fields,
    Notes,
    Table,
    address,
    choice,
    duration,
    each,
    flag,
    no_negative,
    parse_duration_s,
    port,
    seconds,
    subjects,
    text,
    text_map,
    texts,
    write_timeout,
    wrong,
)
from leafnode.wire.upgrade import is_header, is_origin

OLDEST_LEAF = (2, 8, 0)  # before it, nats-server's leaf CONNECT told no version
_PINNED = re.compile(r"[0-9a-f]{64}")
CIPHERS = {
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""Cipher suites as nats-server's configuration calls them, and as OpenSSL does."""
CIPHERS_1_3 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Those of TLS 1.3: all are always on."""
_SEED = re.compile(r"SU[A-Z2-7]{56}")
_DEFAULT_PORTS = {
    "nats-leaf": DEFAULT_LEAF_PORT,
    "nats": DEFAULT_LEAF_PORT,
    "tls": DEFAULT_LEAF_PORT,
    "ws": 80,
    "wss": 443,
}

DEFAULT_PROXY_PORT = 80  # of an http URL
SHORTEST_DEADLINE_S = 1.0  # of a link's silence

# --- TLS


def _pinned(value: Value, notes: Notes) -> frozenset[str]:
    found = frozenset(pin.lower() for pin in texts(value, notes))
    if not all(_PINNED.fullmatch(pin) for pin in found):
        raise wrong(value, "'pinned_certs' must be SHA-256 hashes of 64 hexadecimal digits")
    return found


def _handshake_first(value: Value, notes: Notes) -> tuple[bool, float | None]:
    """true, false, `auto` (INFO after 50 ms of silence, as in nats-server), or that time."""
    if isinstance(value.data, bool):
        return value.data, None
    if value.data in ("auto", "auto_fallback"):
        return True, 0.05
    fallback = parse_duration_s(value.data) if isinstance(value.data, str) else None
    if fallback is None:
        raise wrong(value, "'handshake_first' must be true, false, auto or a duration such as \"300ms\"")
    return True, fallback


TLS = Table(
    "tls",
    {
        "cert_file": ("cert_file", text),
        "key_file": ("key_file", text),
        "ca_file": ("ca_file", text),
        "verify": ("verify", flag),
        "verify_and_map": ("verify_and_map", flag),
        "insecure": ("insecure", flag),
        "timeout": ("timeout_s", seconds),
        "handshake_first|first|immediate": ("handshake", _handshake_first),
        "pinned_certs": ("pinned_certs", _pinned),
        "cipher_suites": ("cipher_suites", texts),
        "min_version": ("min_version", choice("1.2", "1.3")),
    },
    unsupported={
        "curve_preferences": "curves are OpenSSL's choice",
        "verify_cert_and_check_known_urls": "it is for routes and gateways",
        "connection_rate_limit": "handshakes are limited by max_connections and timeout",
        "ocsp_peer": "it does not ask for the state of certificates",
        "certs|certificates": "there is one certificate for each listener: use cert_file and key_file",
        "cert_store|cert_match_by|cert_match|ca_certs_match": "the certificate store is that of Windows",
        "cert_match_skip_invalid": "the certificate store is that of Windows",
        "allow_insecure_cipher_suites": "only cipher suites that are good are allowed",
    },
)


def tls(value: Value, notes: Notes) -> TlsConfig:
    fields = TLS.read(value, notes)
    first, fallback_s = fields.pop("handshake", (False, None))
    found = TlsConfig(handshake_first=first, handshake_first_fallback_s=fallback_s, **fields)
    if bool(found.cert_file) != bool(found.key_file):
        missing = "key_file" if found.cert_file else "cert_file"
        raise wrong(value, f"the tls block needs 'cert_file' and 'key_file' together: {missing!r} is missing")
    for name in found.cipher_suites:
        if name not in CIPHERS and name not in CIPHERS_1_3:
            raise wrong(value, f"unrecognized cipher {name}: leafnode knows {', '.join([*CIPHERS, *CIPHERS_1_3])}")
    return found


# --- remotes


def parse_url(words: str) -> ServerUrl | None:
    """An address of a hub, with what its user part says; without a scheme it is nats-leaf. None if it is none."""
    try:
        parts = urlsplit(words if "://" in words else f"nats-leaf://{words}")
        host, given = parts.hostname, parts.port
    except ValueError:
        return None
    scheme: Any = parts.scheme.lower()
    if not host or scheme not in _DEFAULT_PORTS or parts.query or parts.fragment:
        return None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    is_token = parts.password is None
    return ServerUrl(
        scheme=scheme,
        host=host,
        port=_DEFAULT_PORTS[scheme] if given is None else given,
        path=parts.path.rstrip("/"),
        user=user,
        password=password,
        token=user if is_token else "",
    )


def _url(value: Value, notes: Notes) -> ServerUrl:
    found = parse_url(text(value, notes))
    if found is None:
        raise wrong(value, 'not a hub\'s URL: write for example "tls://hub.example.net:7422" (or nats-leaf, ws, wss)')
    return found


def _urls(value: Value, notes: Notes) -> tuple[ServerUrl, ...]:
    if isinstance(value.data, list):
        return tuple(_url(item, notes) for item in value.data)
    return (_url(value, notes),)


def _seed(value: Value, notes: Notes) -> str:
    """A user's seed, or the path of a file with one."""
    found = text(value, notes)
    if not _SEED.fullmatch(found) and not ("/" in found or "." in found):
        raise wrong(value, "'nkey' must be a user's seed (SU…) or the path of a file with one")
    return found


def _compression(value: Value, notes: Notes) -> str:
    """leafnode has no S2; links stay plain because it declines. Said when someone asks for more."""
    wanted = value.data.get("mode", value).data if isinstance(value.data, dict) else value.data
    if wanted not in (False, "off", "disabled", "accept", "s2_auto", "not supported"):
        notes.warn(value, "links are not compressed: leafnode has no S2")
    return "off"


PROXY = Table(
    "leafnodes.remotes[].proxy",
    {
        "url": ("url", text),
        "username": ("user", text),
        "password": ("password", text),
        "timeout": ("timeout_s", duration),
    },
)


def _proxy(value: Value, notes: Notes) -> ProxyConfig:
    fields = PROXY.read(value, notes)
    parts = urlsplit(fields.pop("url", ""))
    if parts.scheme == "https":
        raise wrong(value, "leafnode speaks plain HTTP with a proxy: write its URL with http://")
    if parts.scheme != "http" or not parts.hostname:
        raise wrong(value, "a proxy needs a 'url' such as \"http://proxy.example.net:3128\"")
    if bool(fields.get("user")) != bool(fields.get("password")):
        raise wrong(value, "a proxy has both 'username' and 'password', or none")
    return ProxyConfig(host=parts.hostname, port=parts.port or DEFAULT_PROXY_PORT, **fields)


def _deadline(value: Value, notes: Notes) -> float:
    found = duration(value, notes)
    if found < SHORTEST_DEADLINE_S:
        raise wrong(value, f"'link_deadline' must be at least {SHORTEST_DEADLINE_S:.0f}s: a round trip takes its time")
    return found


REMOTE = Table(
    "leafnodes.remotes[]",
    {
        "urls|url": ("urls", _urls),
        "account|local": ("account", text),
        "credentials|creds": ("credentials", text),
        "nkey|seed": ("nkey", _seed),
        "tls": ("tls", tls),
        "hub": ("hub", flag),
        "deny_imports|deny_import": ("deny_imports", subjects),
        "deny_exports|deny_export": ("deny_exports", subjects),
        "no_randomize|dont_randomize": ("no_randomize", flag),
        "ignore_discovered_servers": ("ignore_discovered_servers", flag),
        "isolate_leafnode_interest|isolate": ("isolate", flag),
        "request_isolation": ("request_isolation", flag),
        "ws_compression|ws_compress|websocket_compression|websocket_compress": ("ws_compression", flag),
        "ws_no_masking|websocket_no_masking": ("ws_no_masking", flag),
        "proxy": ("proxy", _proxy),
        "link_deadline": ("link_deadline_s", _deadline),
        "compression": ("compression", _compression),
        "first_info_timeout": ("first_info_timeout_s", duration),
        "dial_timeout": ("dial_timeout_s", duration),
        "disabled": ("disabled", flag),
    },
    unsupported={"jetstream_cluster_migrate|js_cluster_migrate": "there is no cluster to migrate in"},
)


def _remote(value: Value, notes: Notes) -> LeafRemote:
    fields = REMOTE.read(value, notes)
    if not fields.get("urls"):
        raise wrong(value, "a remote needs 'url' or 'urls'")
    if fields.get("credentials") and fields.get("nkey"):
        raise wrong(value, "a remote has 'credentials' or 'nkey', not both")
    return LeafRemote(**fields)


# --- the leafnode listener

LEAF_USER = Table(
    "leafnodes.authorization.users[]",
    {
        "user|username": ("user", text),
        "password|pass": ("password", text),
        "nkey": ("nkey", nkey("U")),
        "account": ("account", text),
    },
    unsupported={"proxy_required": "it trusts no proxies"},
)


def _leaf_user(value: Value, notes: Notes) -> LeafUser:
    found = LeafUser(**LEAF_USER.read(value, notes))
    if not found.user and not found.nkey:
        raise wrong(value, "a leafnode user needs 'user' or 'nkey'")
    return found


LEAF_AUTHORIZATION = Table(
    "leafnodes.authorization",
    {
        "user|username": ("user", text),
        "password|pass": ("password", text),
        "nkey": ("nkey", nkey("U")),
        "account": ("account", text),
        "users": ("users", each(_leaf_user)),
        "timeout": ("timeout_s", seconds),
    },
    unsupported={"proxy_required": "it trusts no proxies"},
)


def _leaf_authorization(value: Value, notes: Notes) -> LeafAuthorization:
    fields = LEAF_AUTHORIZATION.read(value, notes)
    single = {name: fields.pop(name) for name in ("user", "password", "nkey", "account") if name in fields}
    if ("user" in single or "nkey" in single) and "users" in fields:
        raise wrong(value, "can not have a single user/pass and a users array: move the user into 'users'")
    return LeafAuthorization(single=LeafUser(**single) if single else None, **fields)


def _min_version(value: Value, notes: Notes) -> str:
    found = text(value, notes)
    match = re.fullmatch(r"v?([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})(-[\w.]+)?", found)
    if not match:
        raise wrong(value, "'min_version' must look like 2.9.0")
    if tuple(int(part) for part in match.groups()[:3]) < OLDEST_LEAF:
        raise wrong(value, "the minimum version should be at least 2.8.0")
    return found.removeprefix("v")


LEAFNODES = Table(
    "leafnodes",
    {
        "listen": ("listen", address),
        "host|net": ("host", text),
        "port": ("port", port),
        "advertise|leafnode_advertise": ("advertise", text),
        "no_advertise": ("no_advertise", flag),
        "min_version|minimum_version": ("min_version", _min_version),
        "isolate_leafnode_interest|isolate": ("isolate", flag),
        "reconnect|reconnect_delay|reconnect_interval": ("reconnect_s", duration),
        "write_deadline": ("write_deadline_s", duration),
        "write_timeout": ("ignored", write_timeout),
        "compression": ("compression", _compression),
        "tls": ("tls", tls),
        "authorization": ("authorization", _leaf_authorization),
        "dial_timeout": ("dial_timeout_s", duration),
        "link_deadline": ("link_deadline_s", _deadline),
        "remotes": ("remotes", each(_remote)),
    },
)


def leafnodes(value: Value, notes: Notes) -> LeafnodesConfig:
    fields = LEAFNODES.read(value, notes)
    fields.pop("ignored", None)
    listen_into(fields, DEFAULT_LEAF_PORT)
    return LeafnodesConfig(**fields)


def listen_into(fields: Fields, default_port: int) -> None:
    """Spread `listen` over host and port; a block with a host but no port listens on the default one."""
    host, number = fields.pop("listen", ("", None))
    if host:
        fields.setdefault("host", host)
    if number is not None:
        fields.setdefault("port", number)
    if "host" in fields:
        fields.setdefault("port", default_port)


# --- websocket, cluster, resolver

WEBSOCKET = Table(
    "websocket",
    {
        "listen": ("listen", address),
        "host|net": ("host", text),
        "port": ("port", port),
        "no_tls": ("no_tls", flag),
        "tls": ("tls", tls),
        "compression|compress": ("compression", flag),
        "same_origin": ("same_origin", flag),
        "allowed_origins|allowed_origin|allow_origins|allow_origin|origins|origin": ("allowed_origins", texts),
        "handshake_timeout": ("handshake_timeout_s", duration),
        "advertise": ("advertise", text),
        "no_auth_user": ("no_auth_user", text),
        "authorization|authentication": ("authorization", authorization),
        "jwt_cookie": ("jwt_cookie", text),
        "user_cookie": ("user_cookie", text),
        "pass_cookie": ("pass_cookie", text),
        "token_cookie": ("token_cookie", text),
        "headers": ("headers", text_map),
        "ping_interval": ("ping_interval_s", duration),
    },
)


def websocket(value: Value, notes: Notes) -> WebsocketConfig:
    fields = WEBSOCKET.read(value, notes)
    listen_into(fields, default_port=443)
    found = WebsocketConfig(**fields)
    if found.port is not None and not found.no_tls and found.tls is None:
        raise wrong(value, "websocket needs a 'tls' block, or 'no_tls: true' behind a proxy")
    if found.authorization.users:
        raise wrong(value, "websocket authorization has one user or a token: move users into the top level")
    for origin in found.allowed_origins:
        if not is_origin(origin):
            raise wrong(value, f"{origin!r} is not an origin: write for example https://panel.example.net")
    for name, text_ in found.headers.items():
        if not is_header(name, text_):
            raise wrong(value, f"{name!r} is not a header with a value of one line")
    return found


CLUSTER = Table(
    "cluster",
    {
        "name": ("name", text),
        "listen": ("listen", address),
        "host|net": ("host", text),
        "port": ("port", port),
        "routes": ("routes", each(text)),
        "advertise|cluster_advertise": ("ignored", text),
        "no_advertise": ("ignored", flag),
        "connect_retries": ("ignored", no_negative),
    },
    unsupported={
        "authorization|tls|permissions": "nobody connects to the cluster's port",
        "pool_size|accounts|compression|connect_backoff": "there are no routes",
        "ping_interval|write_deadline|write_timeout|ping_max": "there are no routes",
    },
)


def cluster(value: Value, notes: Notes) -> ClusterConfig:
    """Only a cluster of one is known: a name and an address, and nobody to talk to."""
    fields = CLUSTER.read(value, notes)
    fields.pop("ignored", None)
    if fields.pop("routes", ()):
        raise wrong(
            value, "leafnode does not support routes: it is one server; use leafnodes { remotes } to join a hub"
        )
    name = fields.get("name", "")
    if " " in name:
        raise wrong(value, "cluster name cannot contain spaces")
    listen_into(fields, default_port=6222)
    where = f"{fields.get('host', '')}:{fields['port']}" if "port" in fields else ""
    return ClusterConfig(name=name, listen=where)


RESOLVER = Table(
    "resolver",
    {
        "type": ("kind", choice("full", "cache", "memory", "mem")),
        "dir": ("dir", text),
        "allow_delete": ("allow_delete", flag),
        "interval": ("interval_s", duration),
        "limit": ("limit", no_negative),
        "ttl": ("ttl_s", duration),
        "timeout": ("timeout_s", duration),
        "hard_delete": ("hard_delete", flag),
    },
)


_NOT_OF = {"cache": ("interval_s", "allow_delete", "hard_delete"), "full": ("ttl_s",)}


def resolver(value: Value, notes: Notes) -> ResolverConfig:
    if isinstance(value.data, dict):
        fields = RESOLVER.read(value, notes)
        if fields.get("kind") == "mem":
            fields["kind"] = "memory"
        if fields.get("kind") in ("full", "cache") and not fields.get("dir"):
            raise wrong(value, f"a resolver of type {fields['kind']} needs 'dir'")
        for key in _NOT_OF.get(fields.get("kind", ""), ()):
            if fields.get(key):
                raise wrong(value, f"a resolver of type {fields['kind']} does not accept '{key.removesuffix('_s')}'")
        if fields.get("hard_delete") and not fields.get("allow_delete"):
            raise wrong(value, "'hard_delete' has no effect without 'allow_delete'")
        return ResolverConfig(**fields)
    words = text(value, notes)
    if words.upper() in ("MEM", "MEMORY"):
        return ResolverConfig(kind="memory")
    if match := re.fullmatch(r"URL\(\s*\"?([^\")]+)\"?\s*\)", words, re.IGNORECASE):
        if not match[1].startswith(("http://", "https://")):
            raise wrong(value, "'resolver' needs a URL that begins with http:// or https://")
        return ResolverConfig(kind="url", url=match[1])
    raise wrong(value, "'resolver' must be MEMORY, URL(http://…) or a block with type full or cache")
