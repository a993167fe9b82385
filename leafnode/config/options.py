"""Every option of the broker, with its unit and its default; nats-server's defaults unless a reason says otherwise.

Nothing here reads files or decides: `load.py` fills these classes from a configuration, `flags.py` from the command
line, and the broker only reads them. Times are seconds, sizes bytes. Secrets are kept out of `repr`, so that an option
may be logged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from leafnode.forward.plan import Forward

KIB = 1024
MIB = 1024 * KIB

DEFAULT_HOST = "0.0.0.0"
DEFAULT_PORT = 4222
DEFAULT_LEAF_PORT = 7422
DEFAULT_HTTP_PORT = 8222
RANDOM_PORT = -1  # "any free port", named afterwards in the log, in INFO and in the ports file
UNLIMITED = -1
AUTH_TIMEOUT_S = 2.0  # from connecting to CONNECT; nats-server
GLOBAL_ACCOUNT = "$G"  # where clients are that belong to no configured account
SYSTEM_ACCOUNT = "$SYS"


ExportKind = Literal["stream", "service"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """A `tls` block, of a listener or of a remote."""

    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    verify: bool = False
    """Listener: demand and check a client certificate."""
    verify_and_map: bool = False
    """As `verify`, and the certificate's e-mail, DNS name or subject is the user."""
    insecure: bool = False
    """Remote only: do not check the hub's certificate."""
    timeout_s: float = 2.0
    """Until the handshake must be complete."""
    handshake_first: bool = False
    """Handshake before INFO is sent."""
    handshake_first_fallback_s: float | None = None
    """With `handshake_first`: send INFO after all if the client stays silent this long. None = never."""
    pinned_certs: frozenset[str] = frozenset()
    """SHA-256 of the acceptable certificates' SubjectPublicKeyInfo, lower-case hex."""
    cipher_suites: tuple[str, ...] = ()
    min_version: str = "1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRules:
    """Which subjects are allowed. A subscribe rule may be `subject queue`."""

    allow: tuple[str, ...] | None = None
    """None = everything that is not denied."""
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRule:
    """Permission to publish to the reply subjects of received messages."""

    max_msgs: int = 1
    """Replies to each; -1 = any number within `expires_s`."""
    expires_s: float = 120.0
    """How long after the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionsConfig:
    publish: SubjectRules = SubjectRules()
    subscribe: SubjectRules = SubjectRules()
    responses: ResponseRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserConfig:
    """Someone who may connect: by name and password, or by nkey."""

    user: str = ""
    password: str = field(default="", repr=False)
    """Plain, or a bcrypt hash (`$2a$…`)."""
    nkey: str = ""
    """Public key, U…; then user and password are empty."""
    permissions: PermissionsConfig | None = None
    """None = the account's default permissions, and without those everything."""
    connection_types: frozenset[str] = frozenset()
    """STANDARD, WEBSOCKET, LEAFNODE, …; empty = all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthCallout:
    """A service that decides who may connect (ADR-26)."""

    issuer: str
    """Public account nkey (A…) that signs what it says."""
    auth_users: tuple[str, ...]
    """Names or nkeys of users that it is not asked about: the service itself."""
    account: str = GLOBAL_ACCOUNT
    """Where it listens."""
    xkey: str = ""
    """Public curve nkey (X…) that requests are sealed for; empty = they are not."""
    allowed_accounts: tuple[str, ...] = ()
    """Users of the file that it is asked about are of these; empty = of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The top-level `authorization` block: one user, or a token, or users of account $G."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    users: tuple[UserConfig, ...] = ()
    timeout_s: float = AUTH_TIMEOUT_S
    """From accepting a connection to its CONNECT."""
    default_permissions: PermissionsConfig | None = None
    callout: AuthCallout | None = None

    @property
    def is_required(self) -> bool:
        return bool(self.user or self.token or self.users)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    kind: ExportKind
    subject: str
    accounts: tuple[str, ...] | None = None
    """Who may import it; None = everyone."""
    response_type: Literal["singleton", "stream", "chunked"] = "singleton"
    response_threshold_s: float = 120.0
    """How long a service's reply is waited for."""
    account_token_position: int = 0
    """Which token (from 1) of what is imported must be the importer's name; 0 = none."""
    token_required: bool = False
    """In account JWTs: importers must show an activation token."""
    revocations: tuple[tuple[str, int], ...] = ()
    """In account JWTs: importer, or `*`, and the time (s) until which its tokens were issued that no longer hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    kind: ExportKind
    account: str
    """The exporter."""
    subject: str
    """As the exporter calls it."""
    to: str = ""
    """As it is called here; empty = the same."""
    prefix: str = ""
    """Streams: put before the subject; excludes `to`."""
    share: bool = False
    """Services: tell the exporter who asks."""
    token: str = field(default="", repr=False)
    """In account JWTs: the exporter's activation, a JWT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    subject: str
    weight_percent: int = 100
    cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingConfig:
    source: str
    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLimits:
    """Of one account; -1 = no limit."""

    max_connections: int = UNLIMITED
    max_subscriptions: int = UNLIMITED
    max_payload: int = UNLIMITED
    """Bytes."""
    max_leafnodes: int = UNLIMITED


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountJetStream:
    """What an account may keep; -1 = no limit, and 0 for the stores = none."""

    max_memory: int = UNLIMITED
    """Bytes in memory streams."""
    max_file: int = UNLIMITED
    """Bytes in file streams."""
    max_streams: int = UNLIMITED
    max_consumers: int = UNLIMITED
    max_ack_pending: int = UNLIMITED
    """Largest `max_ack_pending` a consumer may ask for."""
    memory_max_stream_bytes: int = UNLIMITED
    """Largest `max_bytes` of one memory stream."""
    store_max_stream_bytes: int = UNLIMITED
    """Largest `max_bytes` of one file stream."""
    max_bytes_required: bool = False
    """Streams must state `max_bytes`."""
    tier: str = ""
    """In account JWTs: the tier that these limits are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountConfig:
    name: str
    users: tuple[UserConfig, ...] = ()
    nkey: str = ""
    jetstream: AccountJetStream | None = None
    """None = this account has no JetStream."""
    exports: tuple[ExportConfig, ...] = ()
    imports: tuple[ImportConfig, ...] = ()
    mappings: tuple[MappingConfig, ...] = ()
    limits: AccountLimits = AccountLimits()
    default_permissions: PermissionsConfig | None = None


Sync = Literal["always", "normal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStreamLimits:
    """`jetstream { limits { … } }`; -1 = nats-server's own default, 0 where zero is meant."""

    max_ack_pending: int = UNLIMITED
    max_request_batch: int = UNLIMITED
    """Largest batch of a pull request."""
    duplicate_window_s: float | None = None
    """Longest duplicate window a stream may ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStreamConfig:
    enabled: bool = False
    store_dir: str = ""
    """Folder of the store; empty = a folder below the system's temporary one, as nats-server does."""
    domain: str = ""
    """Sets this JetStream apart from the hub's."""
    max_memory_store: int = UNLIMITED
    """Bytes of memory streams; -1 = what the machine has."""
    max_file_store: int = UNLIMITED
    """Bytes of file streams; -1 = what the disk has."""
    min_free_store: int = 0
    """Bytes of the store's file system that are left free: below, messages are refused."""
    sync: Sync = "always"
    """`normal`: acknowledged before it is on disk; a power cut may take the last moments."""
    limits: JetStreamLimits = JetStreamLimits()
    max_buffered_msgs: int = UNLIMITED
    """Messages a stream takes before they are on disk; -1 = the stream's own bound."""
    max_buffered_size: int = UNLIMITED
    """The same in bytes."""
    strict: bool = True
    """Refuse API requests with unknown fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUrl:
    """An address of the hub. The secrets of the URL are here, not in `str()`."""

    scheme: Literal["nats-leaf", "nats", "tls", "ws", "wss"]
    host: str
    port: int
    path: str = ""
    user: str = field(default="", repr=False)
    """Alone, without a password, it is a token."""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    """The user part of a URL that has no password; `user` is the same then, since the hub may expect either."""

    @property
    def is_tls(self) -> bool:
        return self.scheme in ("tls", "wss")

    @property
    def is_websocket(self) -> bool:
        return self.scheme in ("ws", "wss")

    def with_secrets_of(self, other: "ServerUrl") -> "ServerUrl":
        """This address, with the path and the credentials of the other."""
        return replace(self, path=other.path, user=other.user, password=other.password, token=other.token)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """An HTTP proxy through which a hub is reached (CONNECT)."""

    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    timeout_s: float | None = None
    """Until the tunnel stands; None = that of dialling."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafRemote:
    """One link that we dial."""

    urls: tuple[ServerUrl, ...]
    """Addresses of one hub, tried in random order unless `no_randomize`."""
    account: str = GLOBAL_ACCOUNT
    """Our account that the link joins."""
    credentials: str = ""
    """Path of a .creds file."""
    nkey: str = field(default="", repr=False)
    """Seed (SU…) or the path of a file with one."""
    tls: TlsConfig | None = None
    hub: bool = False
    """We are the hub of this link although we dialled."""
    deny_imports: tuple[str, ...] = ()
    """Subjects not accepted from the hub."""
    deny_exports: tuple[str, ...] = ()
    """Subjects not sent to the hub."""
    no_randomize: bool = False
    ignore_discovered_servers: bool = False
    """Do not reconnect to addresses that the hub told us."""
    request_isolation: bool = False
    """Ask the hub not to forward other leaf nodes' interest."""
    isolate: bool = False
    """Do not tell the hub of the interest of leaf nodes that dial us."""
    ws_compression: bool = False
    """Offer permessage-deflate where the URL is a websocket's."""
    ws_no_masking: bool = False
    """Offer to leave frames unmasked."""
    proxy: ProxyConfig | None = None
    compression: str = "off"
    """Always off: leafnode has no S2, and nats-server does without when the other side declines."""
    link_deadline_s: float | None = None
    """Silence after which the link is dead; None = that of the leafnodes block."""
    first_info_timeout_s: float | None = None
    """None = the time for the whole handshake."""
    dial_timeout_s: float | None = None
    """To a TCP connection; None = that of the leafnodes block."""
    disabled: bool = False
    """Known but not dialled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafUser:
    """A user on the leafnode listener, bound to an account."""

    user: str = ""
    password: str = field(default="", repr=False)
    nkey: str = ""
    account: str = GLOBAL_ACCOUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafAuthorization:
    """`leafnodes { authorization { … } }`: a single user, or users; else the client's rules apply."""

    single: LeafUser | None = None
    """Must match every link; with empty name and nkey only its account is meant."""
    users: tuple[LeafUser, ...] = ()
    timeout_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafnodesConfig:
    host: str = DEFAULT_HOST
    port: int | None = None
    """None = no listener: we only dial."""
    advertise: str = ""
    no_advertise: bool = False
    min_version: str = ""
    """Oldest server version accepted, at least 2.8.0; empty = all."""
    isolate: bool = False
    """Do not forward other leaf nodes' interest to leaf nodes."""
    reconnect_s: float = 1.0
    """Pause between attempts of a remote, before jitter and back-off."""
    dial_timeout_s: float | None = None
    """Of remotes that do not say their own; None = what suits a mobile network."""
    link_deadline_s: float | None = None
    """Silence after which a link is dead; None = some seconds."""
    write_deadline_s: float | None = None
    """None = the server's."""
    compression: str = "off"
    tls: TlsConfig | None = None
    authorization: LeafAuthorization | None = None
    remotes: tuple[LeafRemote, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WebsocketConfig:
    host: str = DEFAULT_HOST
    port: int | None = None
    """None = no listener."""
    no_tls: bool = False
    tls: TlsConfig | None = None
    compression: bool = False
    same_origin: bool = False
    allowed_origins: tuple[str, ...] = ()
    handshake_timeout_s: float = 2.0
    advertise: str = ""
    no_auth_user: str = ""
    authorization: Authorization = Authorization()
    jwt_cookie: str = ""
    user_cookie: str = ""
    pass_cookie: str = ""
    token_cookie: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    ping_interval_s: float | None = None
    """None = the server's."""

    def auth_timeout_s(self, server: "Config") -> float:
        """From the upgrade to CONNECT."""
        own = self.authorization
        return own.timeout_s if own.is_required or own.timeout_s != AUTH_TIMEOUT_S else server.authorization.timeout_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverConfig:
    """Where account JWTs come from."""

    kind: Literal["memory", "url", "full", "cache"] = "memory"
    url: str = ""
    dir: str = ""
    allow_delete: bool = False
    interval_s: float = 60.0
    limit: int = 0
    """JWTs kept; 0 = no limit."""
    ttl_s: float = 0.0
    timeout_s: float = 0.0
    """Of asking elsewhere; 0 = 1.9 s."""
    hard_delete: bool = False
    """Files of deleted accounts are not kept under another name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Only the name and address of a cluster of one: accepted so that starts made for nats-server work."""

    name: str = ""
    listen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All of it. Command line beats file beats these defaults."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    """-1 = any free port."""
    client_advertise: str = ""
    """host:port that clients are told instead of ours."""
    server_name: str = ""
    """Shown in INFO and on the hub; empty = the server's id."""
    server_tags: tuple[str, ...] = ()
    server_metadata: Mapping[str, str] = field(default_factory=dict)

    http_host: str = ""
    """Where monitoring listens; once loaded never empty: it defaults to `host`."""
    http_port: int | None = None
    """Monitoring; None = off, -1 = any free port."""
    https_port: int | None = None
    """Monitoring over TLS, with the certificates of `tls`, in the place of `http_port`."""
    http_base_path: str = "/"

    max_connections: int = 64 * KIB
    """Clients at once; -1 = no limit."""
    max_subscriptions: int = 0
    """Of one client; 0 = no limit."""
    max_sub_tokens: int = 0
    """Tokens in a subscription's subject; 0 = no limit."""
    max_control_line: int = 4 * KIB
    max_payload: int = 1 * MIB
    """Largest message, headers included."""
    max_pending: int = 64 * MIB
    """Bytes waiting for a client that does not read; beyond it is a slow consumer."""

    ping_interval_s: float = 120.0
    ping_max: int = 2
    """Pings without an answer after which a connection is stale."""
    write_deadline_s: float = 10.0
    """How long a client may take no bytes at all."""
    lame_duck_duration_s: float = 120.0
    """Over which clients are closed, one by one."""
    lame_duck_grace_s: float = 10.0
    """Before the first is closed."""
    no_header_support: bool = False
    no_fast_producer_stall: bool = False
    """Do not pause publishers whose receivers cannot keep up."""
    max_closed_clients: int = 10_000
    """Closed connections that monitoring remembers."""
    feature_flags: Mapping[str, bool] = field(default_factory=dict)
    """All false."""

    authorization: Authorization = Authorization()
    accounts: Mapping[str, AccountConfig] = field(default_factory=dict)
    """By name; $G and the system account exist also when they are not here."""
    no_auth_user: str = ""
    """User that clients without credentials become."""
    system_account: str = SYSTEM_ACCOUNT
    no_system_account: bool = False
    mappings: tuple[MappingConfig, ...] = ()
    """Of account $G."""

    tls: TlsConfig | None = None
    allow_non_tls: bool = False

    jetstream: JetStreamConfig = JetStreamConfig()
    default_js_domain: Mapping[str, str] = field(default_factory=dict)
    """Account to the JetStream domain its plain $JS.API requests go to."""
    leafnodes: LeafnodesConfig = LeafnodesConfig()
    forwards: tuple[Forward, ...] = ()
    """Local streams that are copied to hubs."""
    websocket: WebsocketConfig = WebsocketConfig()
    cluster: ClusterConfig = ClusterConfig()

    operators: tuple[str, ...] = ()
    """Operator JWTs, or paths of files with one."""
    trusted_keys: tuple[str, ...] = ()
    resolver: ResolverConfig | None = None
    resolver_preload: Mapping[str, str] = field(default_factory=dict)
    resolver_tls: TlsConfig | None = None
    """Of the web server that `resolver: URL(…)` asks."""
    resolver_pinned_accounts: frozenset[str] = frozenset()
    """Only users of these; empty = of all."""
    default_sentinel: str = field(default="", repr=False)
    """JWT that clients become who show none; it must be a bearer's."""
    """Account id to JWT."""

    debug: bool = False
    trace: bool = False
    """Log the protocol line by line."""
    trace_verbose: bool = False
    """Of the system account too."""
    trace_headers: bool = False
    """Of payloads, the headers only."""
    max_traced_msg_len: int = 0
    """Bytes of a payload shown in a trace; 0 = all."""
    logtime: bool = True
    logtime_utc: bool = False
    log_file: str = ""
    """Empty = stderr."""
    log_size_limit: int = 0
    """Bytes after which the log file becomes an archive with the time in its name; 0 = never."""
    log_max_files: int | None = None
    """The log and its archives; 0 = no limit, None = two."""
    syslog: bool = False
    """To the local syslog instead of stderr."""
    remote_syslog: str = ""
    """To that of udp://HOST:PORT or unix:///PATH."""
    connect_error_reports: int | None = None
    """Of failed attempts to reach a hub for the first time, one in this many is logged; None = when the reason changes,
    and once an hour."""
    reconnect_error_reports: int | None = None
    """The same for attempts to reach it again."""

    pid_file: str = ""
    ports_file_dir: str = ""

    config_file: str = ""
    """Where this came from; empty = flags only."""
    config_digest: str = ""
    """`sha256:…` of the file's bytes; shown in /varz."""
    argv: tuple[str, ...] = field(default=(), repr=False)
    """The command line, for reading everything again at a reload."""
    warnings: tuple[str, ...] = ()
    """What is accepted but should be mended; logged at the start."""

    @property
    def auth_timeout_s(self) -> float:
        """From accepting a connection to its CONNECT; with TLS that begins with the handshake (nats-server)."""
        given = self.authorization.timeout_s
        return self.tls.timeout_s + 1.0 if self.tls and given == AUTH_TIMEOUT_S else given

    @property
    def is_operated(self) -> bool:
        """Whether accounts and users come as JWTs that operators signed."""
        return bool(self.operators or self.trusted_keys)

    @property
    def auth_required(self) -> bool:
        """Whether a client needs credentials at all."""
        configured = any(account.users for account in self.accounts.values())
        return configured or self.authorization.is_required or bool(self.operators or self.trusted_keys)

    def account(self, name: str) -> AccountConfig:
        """What is written of an account; of one that needs no mention, nothing."""
        return self.accounts.get(name) or AccountConfig(name=name)

    def users(self) -> Iterator[tuple[str, UserConfig]]:
        """Every user with the name of its account."""
        for user in self.authorization.users:
            yield GLOBAL_ACCOUNT, user
        for name, account in self.accounts.items():
            for user in account.users:
                yield name, user
