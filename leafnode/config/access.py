"""The keys about who may connect and do what: authorization, users, permissions, accounts. Pure."""

import re
from typing import Any

from leafnode.config.grammar import Value
from leafnode.config.options import (
    GLOBAL_ACCOUNT,
    AccountConfig,
    AccountJetStream,
    AccountLimits,
    AuthCallout,
    Authorization,
    Destination,
    ExportConfig,
    ImportConfig,
    MappingConfig,
    PermissionsConfig,
    ResponseRule,
    SubjectRules,
    UserConfig,
)
from leafnode.config.section import (
    Fields,
    Notes,
    Reader,
    Table,
    choice,
    duration,
    each,
    flag,
    kind_of,
    number,
    seconds,
    subject,
    subjects,
    subjects_or_queues,
    text,
    texts,
    wrong,
)

CONNECTION_TYPES = frozenset({"STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS", "IN_PROCESS"})
_PUBLIC_NKEY = re.compile(r"[UAX][A-Z2-7]{55}")

# --- permissions


def _rules(reader: Reader, path: str) -> Reader:
    """A subject, an array of them, or `{ allow: …, deny: … }`."""
    table = Table(path, {"allow": ("allow", reader), "deny": ("deny", reader)})

    def read(value: Value, notes: Notes) -> SubjectRules:
        if not isinstance(value.data, dict):
            return SubjectRules(allow=reader(value, notes))
        fields = table.read(value, notes)
        if not fields.get("allow") and "deny" in fields:
            fields["allow"] = None  # an empty allow list beside a deny list allows the rest
        return SubjectRules(**fields)

    return read


RESPONSES = Table(
    "permissions.allow_responses",
    {
        "max|max_msgs|max_messages|max_responses": ("max_msgs", number),
        "expires|expiration|ttl": ("expires_s", duration),
    },
)


def _responses(value: Value, notes: Notes) -> ResponseRule | None:
    if isinstance(value.data, bool):
        return ResponseRule() if value.data else None
    if not isinstance(value.data, dict):
        raise wrong(value, f"'allow_responses' must be true, false or a block, not {kind_of(value)}")
    fields = RESPONSES.read(value, notes)
    defaults = ResponseRule()
    return ResponseRule(
        max_msgs=fields.get("max_msgs") or defaults.max_msgs,  # zero stands for the default, as in nats-server
        expires_s=fields.get("expires_s") or defaults.expires_s,
    )


PERMISSIONS = Table(
    "permissions",
    {
        "publish|pub|import": ("publish", _rules(subjects, "permissions.publish")),
        "subscribe|sub|export": ("subscribe", _rules(subjects_or_queues, "permissions.subscribe")),
        "allow_responses|allow_response|publish_allow_responses": ("responses", _responses),
    },
)


def permissions(value: Value, notes: Notes) -> PermissionsConfig:
    fields = PERMISSIONS.read(value, notes)
    publish = fields.get("publish", SubjectRules())
    if fields.get("responses") and publish.allow is None and not publish.deny:
        fields["publish"] = SubjectRules(allow=())  # only answers may be published
    return PermissionsConfig(**fields)


# --- users


def _connection_types(value: Value, notes: Notes) -> frozenset[str]:
    found = frozenset(word.upper() for word in texts(value, notes))
    if unknown := found - CONNECTION_TYPES:
        raise wrong(value, f"unknown connection types {sorted(unknown)}; known are {sorted(CONNECTION_TYPES)}")
    return found


def nkey(kind: str) -> Reader:
    """A public nkey whose first letter is `kind`."""

    def read(value: Value, notes: Notes) -> str:
        found = text(value, notes)
        if not found.startswith(kind) or not _PUBLIC_NKEY.fullmatch(found):
            raise wrong(value, f"not a public nkey: 56 characters beginning with {kind} are expected")
        return found

    return read


USER = Table(
    "users[]",
    {
        "user|username": ("user", text),
        "password|pass": ("password", text),
        "nkey": ("nkey", nkey("U")),
        "permissions|permission|authorization": ("permissions", permissions),
        "allowed_connection_types|connection_types|clients": ("connection_types", _connection_types),
    },
    unsupported={"proxy_required": "it trusts no proxies"},
)


def user(value: Value, notes: Notes) -> UserConfig:
    found = UserConfig(**USER.read(value, notes))
    if not found.user and not found.nkey:
        raise wrong(value, "a user entry needs 'user' or 'nkey'")
    if found.nkey and (found.user or found.password):
        raise wrong(value, "a user entry with 'nkey' has neither 'user' nor 'password'")
    return found


CALLOUT = Table(
    "authorization.auth_callout",
    {
        "issuer": ("issuer", nkey("A")),
        "account|acc": ("account", text),
        "auth_users|users": ("auth_users", texts),
        "allowed_accounts": ("allowed_accounts", texts),
        "xkey|key": ("xkey", nkey("X")),
    },
)


def _callout(value: Value, notes: Notes) -> AuthCallout:
    fields = CALLOUT.read(value, notes)
    if not fields.get("issuer"):
        raise wrong(value, "Authorization callouts require an issuer to be specified")
    if not fields.get("auth_users"):
        raise wrong(value, "Authorization callouts require authorized users to be specified")
    return AuthCallout(**fields)


AUTHORIZATION = Table(
    "authorization",
    {
        "user|username": ("user", text),
        "password|pass": ("password", text),
        "token": ("token", text),
        "users": ("users", each(user)),
        "timeout": ("timeout_s", seconds),
        "default_permissions|default_permission|permissions": ("default_permissions", permissions),
        "auth_callout|auth_hook": ("callout", _callout),
    },
    unsupported={"proxy_required": "it trusts no proxies"},
)


def authorization(value: Value, notes: Notes) -> Authorization:
    fields = AUTHORIZATION.read(value, notes)
    found = Authorization(**fields)
    if found.user and found.token:
        raise wrong(value, "Cannot have a user/pass and token: keep one of them")
    if found.user and "users" in fields:
        raise wrong(value, "Can not have a single user/pass and a users array: move the user into 'users'")
    if found.token and "users" in fields:
        raise wrong(value, "Can not have a token and a users array: keep one of them")
    return found


# --- accounts

ACCOUNT_JETSTREAM = Table(
    "accounts.*.jetstream",
    {
        "max_memory|max_mem|mem|memory": ("max_memory", number),
        "max_file|max_store|max_disk|store|disk": ("max_file", number),
        "max_streams|streams": ("max_streams", number),
        "max_consumers|consumers": ("max_consumers", number),
        "max_ack_pending": ("max_ack_pending", number),
        "memory_max_stream_bytes|mem_max_stream_bytes": ("memory_max_stream_bytes", number),
        "store_max_stream_bytes|disk_max_stream_bytes": ("store_max_stream_bytes", number),
        "max_bytes_required|max_stream_bytes|max_bytes": ("max_bytes_required", flag),
        "enabled|enable": ("enabled", flag),
    },
    unsupported={"cluster_traffic": "there is no cluster"},
)


def enabled_word(value: Value) -> bool | None:
    """What `enabled`, `disabled`, true and false say; None for a block."""
    if isinstance(value.data, bool):
        return value.data
    if isinstance(value.data, dict):
        return None
    words = {"enabled": True, "enable": True, "disabled": False, "disable": False}
    found = words.get(value.data.lower()) if isinstance(value.data, str) else None
    if found is None:
        raise wrong(value, "'jetstream' must be enabled, disabled, true, false or a block")
    return found


def _account_jetstream(value: Value, notes: Notes) -> AccountJetStream | None:
    wanted = enabled_word(value)
    if wanted is not None:
        return AccountJetStream() if wanted else None
    fields = ACCOUNT_JETSTREAM.read(value, notes)
    return AccountJetStream(**fields) if fields.pop("enabled", True) else None


LIMITS = Table(
    "accounts.*.limits",
    {
        "max_connections|max_conn": ("max_connections", number),
        "max_subscriptions|max_subs": ("max_subscriptions", number),
        "max_payload|max_pay": ("max_payload", number),
        "max_leafnodes|max_leafs": ("max_leafnodes", number),
    },
)


def _limits(value: Value, notes: Notes) -> AccountLimits:
    return AccountLimits(**LIMITS.read(value, notes))


EXPORT = Table(
    "accounts.*.exports[]",
    {
        "stream": ("stream", subject),
        "service": ("service", subject),
        "accounts": ("accounts", texts),
        "response_type|response": ("response_type", choice("singleton", "stream", "chunked")),
        "response_threshold|threshold|response_max_time|response_time": ("response_threshold_s", duration),
        "account_token_position": ("account_token_position", number),
    },
    unsupported={
        "latency": "latencies of services are not sampled",
        "allow_trace": "messages are not traced through servers",
    },
)


def _export(value: Value, notes: Notes) -> ExportConfig:
    fields = EXPORT.read(value, notes)
    kind, name = _stream_or_service(fields, value)
    position = fields.get("account_token_position", 0)
    if position and name.split(".")[position - 1 : position] != ["*"]:
        raise wrong(value, f"account_token_position {position} is not that of a '*' in {name!r}")
    return ExportConfig(kind=kind, subject=name, **fields)


def _stream_or_service(fields: Fields, value: Value) -> tuple[Any, Any]:
    found = [(kind, fields.pop(kind)) for kind in ("stream", "service") if kind in fields]
    if len(found) != 1:
        raise wrong(value, "exactly one of 'stream' and 'service' is expected here")
    return found[0]


ORIGIN = Table("accounts.*.imports[].stream", {"account": ("account", text), "subject": ("subject", subject)})


def _origin(value: Value, notes: Notes) -> Fields:
    fields = ORIGIN.read(value, notes)
    if len(fields) != 2:
        raise wrong(value, "an import needs 'account' and 'subject'")
    return fields


IMPORT = Table(
    "accounts.*.imports[]",
    {
        "stream": ("stream", _origin),
        "service": ("service", _origin),
        "to": ("to", subject),
        "prefix": ("prefix", subject),
        "share": ("share", flag),
    },
    unsupported={"allow_trace": "messages are not traced through servers"},
)


def _import(value: Value, notes: Notes) -> ImportConfig:
    fields = IMPORT.read(value, notes)
    kind, origin = _stream_or_service(fields, value)
    if "to" in fields and "prefix" in fields:
        raise wrong(value, "an import has 'to' or 'prefix', not both")
    return ImportConfig(kind=kind, **origin, **fields)


def _weight(value: Value, notes: Notes) -> int:
    """`60`, `60%` or "60%"."""
    words = value.data.removesuffix("%") if isinstance(value.data, str) else str(value.data)
    if not re.fullmatch(r"[0-9]{1,3}", words) or int(words) > 100:
        raise wrong(value, "'weight' must be a share from 0% to 100%")
    return int(words)


DESTINATION = Table(
    "mappings.*[]",
    {
        "destination|dest": ("subject", text),
        "weight": ("weight_percent", _weight),
        "cluster": ("cluster", text),
    },
)


def _destination(value: Value, notes: Notes) -> Destination:
    fields = DESTINATION.read(value, notes)
    if "subject" not in fields or "weight_percent" not in fields:
        raise wrong(value, "a mapping's destination needs 'destination' and 'weight'")
    return Destination(**fields)


def mappings(value: Value, notes: Notes) -> tuple[MappingConfig, ...]:
    """Source subject to a destination, or to several with weights."""
    if not isinstance(value.data, dict):
        raise wrong(value, f"'mappings' must be a block, not {kind_of(value)}")
    found = []
    for source, target in value.data.items():
        if isinstance(target.data, str):
            destinations: tuple[Destination, ...] = (Destination(subject=target.data),)
        elif isinstance(target.data, dict):
            destinations = (_destination(target, notes),)
        else:
            destinations = each(_destination)(target, notes)
        _check_shares(source, destinations, target)
        found.append(MappingConfig(source=source, destinations=destinations))
    return tuple(found)


def _check_shares(source: str, destinations: tuple[Destination, ...], value: Value) -> None:
    """Destinations for one cluster, or for all, are a list of their own."""
    for cluster in {destination.cluster for destination in destinations}:
        entries = [destination for destination in destinations if destination.cluster == cluster]
        if sum(entry.weight_percent for entry in entries) > 100:
            raise wrong(value, f"mapping of {source!r}: the total weight needs to be <= 100")
        names = [entry.subject for entry in entries]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise wrong(value, f"mapping of {source!r}: duplicate entry for {twice!r}")


ACCOUNT = Table(
    "accounts.*",
    {
        "users": ("users", each(user)),
        "nkey": ("nkey", nkey("A")),
        "jetstream": ("jetstream", _account_jetstream),
        "exports": ("exports", each(_export)),
        "imports": ("imports", each(_import)),
        "mappings|maps": ("mappings", mappings),
        "limits": ("limits", _limits),
        "default_permissions|default_permission|permissions": ("default_permissions", permissions),
    },
    unsupported={
        "trace_dest|trace_destination|msg_trace": "messages are not traced through servers: log the protocol with trace"
    },
)


def accounts(value: Value, notes: Notes) -> dict[str, AccountConfig]:
    """A block of accounts, or an array of bare names."""
    if isinstance(value.data, list):
        return {name: AccountConfig(name=name) for name in texts(value, notes)}
    if not isinstance(value.data, dict):
        raise wrong(value, f"'accounts' must be a block, not {kind_of(value)}")
    found = {}
    for name, block in value.data.items():
        if name == GLOBAL_ACCOUNT:
            raise wrong(block, f"{GLOBAL_ACCOUNT!r} is a reserved account: put its users into 'authorization'")
        if block.used and not isinstance(block.data, dict):
            continue
        found[name] = AccountConfig(name=name, **ACCOUNT.read(block, notes))
    return found
