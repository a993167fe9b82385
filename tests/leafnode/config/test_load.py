"""From keys to options: values and units, what is refused and in which words, and what contradicts itself."""

from pathlib import Path

import pytest

from leafnode.config.load import load_text
from leafnode.config.options import (
    UNLIMITED,
    AccountJetStream,
    Config,
    ExportConfig,
    ImportConfig,
    ResponseRule,
    ServerUrl,
    SubjectRules,
)
from leafnode.errors import ConfigError

NKEY = "UAASQOVQZ57NOSKD4YZQ4SLD3YJZBIMCFW35JDAX55RAVIWJDMQ3CSPA"


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    return str(caught.value)


# --- single options


@pytest.mark.parametrize(
    ("text", "option", "value"),
    [
        ("port: -1", "port", -1),
        ("PORT: 5", "port", 5),
        ("port: 0", "port", 4222),
        ("net: '::1'", "host", "::1"),
        ("host: 127.0.0.1", "host", "127.0.0.1"),
        ("server_name: §x", "server_name", "§x"),
        ('server_tags: [a, "b"]', "server_tags", ("a", "b")),
        ("server_tags: 'a, b'", "server_tags", ("a", "b")),
        ("server_metadata { k: v }", "server_metadata", {"k": "v"}),
        ("max_payload: 64KB", "max_payload", 65536),
        ("max_pending: 1Gb", "max_pending", 1 << 30),
        ("max_payload: 0", "max_payload", 1 << 20),
        ("max_conn: 5", "max_connections", 5),
        ("max_connections: 0", "max_connections", 65536),
        ("max_connections: -1", "max_connections", -1),
        ("max_subs: 6", "max_subscriptions", 6),
        ('ping_interval: "100ms"', "ping_interval_s", 0.1),
        ("ping_interval: 1m30s", "ping_interval_s", 90.0),
        ("ping_interval: 1.5h", "ping_interval_s", 5400.0),
        ("ping_max: 3", "ping_max", 3),
        ("write_deadline: 2s", "write_deadline_s", 2.0),
        ("lame_duck_duration: 30s", "lame_duck_duration_s", 30.0),
        ("debug: on", "debug", True),
        ("trace_verbose: true", "trace", True),
        ("logtime: no", "logtime", False),
        ("logfile: /x", "log_file", "/x"),
        ("log_size_limit: 1MB", "log_size_limit", 1 << 20),
        ("pidfile: /x", "pid_file", "/x"),
        ("ports_file_dir: /x", "ports_file_dir", "/x"),
        ("http: 8222", "http_port", 8222),
        ("monitor_port: 8222", "http_port", 8222),
        ('http: "127.0.0.1:-1"', "http_port", -1),
        ("http_base_path: nats/", "http_base_path", "/nats"),
        ("allow_non_tls: true", "allow_non_tls", True),
        ("client_advertise: 'a:1'", "client_advertise", "a:1"),
        ("n: 5\nport: $n", "port", 5),
    ],
)
def test_an_option(text: str, option: str, value: object) -> None:
    assert getattr(load_text(text), option) == value


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("listen: 4333", "0.0.0.0", 4333),
        ('listen: "localhost:4333"', "localhost", 4333),
        ("listen: 127.0.0.1:-1", "127.0.0.1", -1),
        ("listen: :4333", "0.0.0.0", 4333),
        ('listen: "[::1]:4333"', "::1", 4333),
    ],
)
def test_listen(text: str, host: str, port: int) -> None:
    config = load_text(text)
    assert (config.host, config.port) == (host, port)


def test_defaults_are_those_of_the_options() -> None:
    assert load_text("host: 0.0.0.0").max_pending == Config().max_pending == 64 << 20


def test_monitoring_listens_where_clients_do_unless_told() -> None:
    assert load_text("host: 127.0.0.1\nhttp: 1").http_host == "127.0.0.1"
    assert load_text("host: 127.0.0.1\nhttp: '0.0.0.0:1'").http_host == "0.0.0.0"


def test_a_bare_number_for_a_duration_works_with_a_warning() -> None:
    config = load_text("ping_interval: 5")
    assert config.ping_interval_s == 5.0
    assert len(config.warnings) == 1
    assert '"5s"' in config.warnings[0]


# --- blocks


def test_one_user() -> None:
    access = load_text("authorization { user: a, pass: $2a$11$x\n timeout: 0.001 }").authorization
    assert (access.user, access.password, access.timeout_s) == ("a", "$2a$11$x", 0.001)
    assert load_text('authorization { token: t, timeout: "2s" }').authorization.token == "t"


def test_users_without_password_and_no_auth_user() -> None:
    config = load_text("authorization { users: [{user: foo}] }\nno_auth_user: foo")
    assert [(account, user.user) for account, user in config.users()] == [("$G", "foo")]
    assert config.auth_required


def test_permissions_in_every_spelling() -> None:
    config = load_text(
        """authorization { users = [
            { user: a, permission: { publish: "x", subscribe: ["y", "q A"] } }
            { user: b, permissions: { publish { allow: ["x", "z"], deny: "z.>" }, subscribe { deny: [">"] } } }
            { user: c, permissions: { subscribe: "svc", allow_responses: true } }
            { user: d, permissions: { publish: x, allow_responses: { max: 5, expires: "1m" } } }
            { user: e, permissions: { publish: { allow: [], deny: "s" } } }
        ] }"""
    )
    found = {user.user: user.permissions for _, user in config.users()}
    a, b, c, d, e = (found[name] for name in "abcde")
    assert all((a, b, c, d, e))
    assert a.publish == SubjectRules(allow=("x",))
    assert a.subscribe == SubjectRules(allow=("y", "q A"))
    assert b.publish == SubjectRules(allow=("x", "z"), deny=("z.>",))
    assert b.subscribe == SubjectRules(allow=None, deny=(">",))
    assert c.publish == SubjectRules(allow=())  # nothing but answers
    assert c.responses == ResponseRule(max_msgs=1, expires_s=120.0)
    assert d.responses == ResponseRule(max_msgs=5, expires_s=60.0)
    assert d.publish.allow == ("x",)
    assert e.publish == SubjectRules(allow=None, deny=("s",))


def test_accounts_with_users_and_jetstream() -> None:
    config = load_text(
        f"""accounts {{
            A {{ users: [ {{user: a, password: a}}, {{nkey: {NKEY}}} ], jetstream: enabled }}
            B: {{ jetstream {{ max_mem: 1G, max_file: -1, max_streams: 10, max_stream_bytes: true,
                               memory_max_stream_bytes: 5, store_max_stream_bytes: 6, max_ack_pending: 7 }} }}
            C {{ jetstream: disabled, limits {{ max_conn: 1, max_payload: 10, max_leafs: 3 }} }}
        }}
        no_auth_user: a"""
    )
    a, b, c = (config.accounts[name] for name in "ABC")
    assert [user.user or user.nkey for user in a.users] == ["a", NKEY]
    assert a.jetstream == AccountJetStream()
    assert b.jetstream == AccountJetStream(
        max_memory=10**9, max_streams=10, max_bytes_required=True, memory_max_stream_bytes=5, store_max_stream_bytes=6,
        max_ack_pending=7,
    )  # fmt: skip
    assert c.jetstream is None
    assert (c.limits.max_connections, c.limits.max_subscriptions, c.limits.max_leafnodes) == (1, UNLIMITED, 3)


@pytest.mark.parametrize(
    ("text", "enabled"),
    [("jetstream: enabled", True), ("jetstream: disabled", False), ("jetstream: true", True),
     ("jetstream: false", False), ("jetstream {}", True), ("jetstream { enabled: false }", False), ("port: 1", False)],
)  # fmt: skip
def test_jetstream_on_and_off(text: str, enabled: bool) -> None:
    assert load_text(text).jetstream.enabled is enabled


def test_jetstream_block() -> None:
    found = load_text(
        """jetstream { store_dir: "/x", domain: hub, max_mem_store: "1G", max_file_store: 10GB, sync_interval: always
           max_buffered_size: 10MB, max_buffered_msgs: disabled
           limits { max_ack_pending: 5, duplicate_window: "1m" } }"""
    ).jetstream
    assert (found.store_dir, found.domain, found.max_memory_store, found.max_file_store) == (
        "/x",
        "hub",
        1 << 30,
        10 << 30,
    )
    assert (found.max_buffered_size, found.max_buffered_msgs) == (10 << 20, UNLIMITED)
    assert (found.limits.max_ack_pending, found.limits.duplicate_window_s) == (5, 60.0)


def test_leafnode_remotes() -> None:
    found = load_text(
        """accounts { A {} }
        leafnodes { reconnect: "2s", remotes: [
            { url: "nats://user:p%40ss@hub.example:7000", account: A, deny_exports: ["tele.>", x], deny_import: y
              hub: true }
            { urls: ["tls://a", "tls://[::1]:1"], credentials: "/c.creds", tls { insecure: true, timeout: 5 } }
            { url: "wss://token@h/path/" }
            { url: "h:1" }
        ] }"""
    ).leafnodes
    one, two, three, four = found.remotes
    assert found.reconnect_s == 2.0
    assert found.port is None
    assert one.urls == (ServerUrl(scheme="nats", host="hub.example", port=7000, user="user", password="p@ss"),)
    assert (one.account, one.deny_exports, one.deny_imports, one.hub) == ("A", ("tele.>", "x"), ("y",), True)
    assert [str(url) for url in two.urls] == ["tls://a:7422", "tls://[::1]:1"]
    assert two.tls
    assert (two.tls.insecure, two.tls.timeout_s, two.credentials) == (True, 5.0, "/c.creds")
    assert (three.urls[0].token, three.urls[0].port, three.urls[0].path) == ("token", 443, "/path")
    assert str(four.urls[0]) == "nats-leaf://h:1"


def test_secrets_are_not_in_reprs() -> None:
    shown = repr(load_text(
        """authorization { users: [{user: a, password: s3cret}] }
        leafnodes { remotes: [ {url: "nats://u:s3cret@h"}, {url: "nats://s3cret@i"} ]
                    authorization { users: [{user: x, password: s3cret}] } }"""
    ))  # fmt: skip
    assert "password" not in shown
    assert "s3cret" not in shown


def test_leafnode_listener() -> None:
    found = load_text(
        """accounts { A {} }
        leafnodes { listen: "127.0.0.1:-1", isolate: true, min_version: "2.9.0"
                    authorization { users: [{user: x, password: y, account: A}], timeout: 3 } }"""
    ).leafnodes
    assert (found.host, found.port, found.isolate, found.min_version) == ("127.0.0.1", -1, True, "2.9.0")
    assert found.authorization
    assert (found.authorization.users[0].account, found.authorization.timeout_s) == ("A", 3.0)
    single = load_text("leafnodes { port: 7422, authorization { user: u, password: p } }").leafnodes.authorization
    assert single
    assert single.single
    assert (single.single.user, single.single.account) == ("u", "$G")
    assert load_text("leaf { host: 127.0.0.1 }").leafnodes.port == 7422


def test_a_cluster_of_one_is_accepted() -> None:
    assert load_text('cluster { name: "local", listen: "127.0.0.1:-1" }').cluster.name == "local"


def test_sharing_between_accounts() -> None:
    config = load_text(
        """accounts {
            B { exports: [ {service: "q.>", response_type: Stream, accounts: [A], threshold: "1s"}, {stream: "p.>"} ] }
            A { imports: [ {service: {account: B, subject: "q.*"}, to: "l.*", share: true},
                           {stream: {account: B, subject: "p.x"}, prefix: b} ]
                mappings { a: b, c: [ {destination: d, weight: 60%}, {dest: e, weight: "40%"} ] } }
        }"""
    )
    assert config.accounts["B"].exports == (
        ExportConfig(kind="service", subject="q.>", accounts=("A",), response_type="stream", response_threshold_s=1.0),
        ExportConfig(kind="stream", subject="p.>"),
    )
    assert config.accounts["A"].imports == (
        ImportConfig(kind="service", account="B", subject="q.*", to="l.*", share=True),
        ImportConfig(kind="stream", account="B", subject="p.x", prefix="b"),
    )
    assert [d.weight_percent for d in config.accounts["A"].mappings[1].destinations] == [60, 40]


def test_tls_websocket_and_resolver() -> None:
    config = load_text(
        """tls { cert_file: c, key_file: k, ca_file: a, verify_and_map: true, handshake_first: "300ms", timeout: 3 }
        websocket { port: -1, no_tls: true, compression: true, allowed_origins: ["http://a"] }
        operator: "eyJ0"
        resolver: MEMORY
        resolver_preload { ADK: eyJ0 }"""
    )
    assert config.tls
    assert (config.tls.verify_and_map, config.tls.handshake_first, config.tls.handshake_first_fallback_s) == (
        True,
        True,
        0.3,
    )
    assert (config.websocket.port, config.websocket.no_tls, config.websocket.compression) == (-1, True, True)
    assert config.resolver
    assert (config.resolver.kind, config.resolver_preload, config.operators) == ("memory", {"ADK": "eyJ0"}, ("eyJ0",))


# --- refusals


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\nlisten_prot: 1", ["line 2", "unknown field 'listen_prot'"]),
        ("prot: 1", ["did you mean 'port'"]),
        ("jetstream { store_dri: x }", ["'jetstream.store_dri'", "did you mean 'store_dir'"]),
        ("leafnodes { remotes: [\n{ ulr: x } ] }", ["line 2", "'leafnodes.remotes[].ulr'", "'url'"]),
        ("\nmqtt {}", ["leafnode does not support 'mqtt' (line 2)", "remove the block"]),
        ("gateway { name: x }", ["does not support 'gateway'"]),
        ("cluster { routes: [nats://a] }", ["does not support routes", "leafnodes"]),
        ("port: '4222'", ["'port'", "whole number", "without quotes"]),
        ("port: 70000", ["'port'", "65535"]),
        ("debug: 1", ["'debug'", "true or false"]),
        ("max_payload: 1.5", ["'max_payload'", "whole number"]),
        ("server_name: 5", ["'server_name'", "put it in quotes"]),
        ("ping_interval: '5'", ["'ping_interval'", "duration"]),
        ("listen: foo", ["'listen'", "host:port"]),
        ("authorization { user: a, password: 123 }", ["'authorization.password'", "quotes"]),
        ("authorization { user: a, token: b }", ["user/pass and token"]),
        ("authorization { user: a, users: [] }", ["single user/pass and a users array"]),
        ("authorization { users: [{password: x}] }", ["needs 'user'"]),
        ("authorization { users: [{nkey: UABC}] }", ["not a public nkey"]),
        ("authorization { users: [{user: a, permissions: {publish: 'a..b'}}] }", ["'a..b'", "not a valid subject"]),
        ("authorization { users: [{user: a}, {user: a}] }", ["Duplicate user 'a'"]),
        (
            "authorization { user: a, password: b }\naccounts { A { users: [{user: c}] } }",
            ["single user/pass and accounts"],
        ),
        ("accounts { A { users: [{user: a}] }, B { users: [{user: a}] } }", ["Duplicate user 'a'"]),
        ("accounts { '$G' {} }", ["reserved"]),
        ("no_auth_user: foo", ["no_auth_user 'foo'"]),
        ("system_account: FOO", ["system_account 'FOO'"]),
        ("jetstream: foo", ["'jetstream'", "enabled"]),
        ("jetstream { max_mem: '10MB' }", ["'jetstream.max_mem'", "10G"]),
        ("jetstream { domain: a.b }", ["domain", "token"]),
        ("max_payload: 100MB", ["max_payload", "max_pending"]),
        ("lame_duck_duration: 10s", ["minimum is 30 seconds"]),
        ("leafnodes { min_version: '2.7.0', port: 1 }", ["at least 2.8.0"]),
        ("leafnodes { remotes: [{url: 'nats://a', account: X}] }", ["local account 'X'"]),
        ("leafnodes { remotes: [{url: 'nats://a'}, {url: 'nats://a'}] }", ["duplicate remote"]),
        ("leafnodes { remotes: [{urls: ['ws://a', 'nats://b']}] }", ["cannot mix"]),
        ("leafnodes { remotes: [{url: 'foo://a'}] }", ["not a hub's URL"]),
        ("leafnodes { remotes: [{url: 'nats://a', tls {cert_file: x}}] }", ["'key_file' is missing"]),
    ],
)
def test_a_refusal_says_what_and_where(text: str, words: list[str]) -> None:
    said = refused(text)
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accounts { A { imports: [{stream: {account: B, subject: x}}] } }", ["'B' account not defined"]),
        ("accounts { A { imports: [{service: {account: B, subject: x}}] }, B {} }", ["not authorized"]),
        ("accounts { A { exports: [{stream: x, service: y}] } }", ["exactly one"]),
        ("accounts { A { mappings { a: [{destination: b, weight: 60}, {destination: c, weight: 50}] } } }", ["<= 100"]),
        ("websocket { port: 80 }", ["no_tls"]),
        ("resolver: foo", ["MEMORY"]),
    ],
)
def test_refusals_of_what_is_to_come(text: str, words: list[str]) -> None:
    said = refused(text)
    for word in words:
        assert word in said


def test_a_wrong_secret_is_not_repeated() -> None:
    assert "s3cret" not in refused("authorization { user: a, password: [s3cret] }")


def test_included_files_are_found_beside_the_including_one(tmp_path: Path) -> None:
    from leafnode.config.load import load_file

    (tmp_path / "sub").mkdir()
    (tmp_path / "main.conf").write_text("include sub/a.conf\n")
    (tmp_path / "sub" / "a.conf").write_text("port: 5\ninclude b.conf\n")
    (tmp_path / "sub" / "b.conf").write_text("host: $HOST\n")
    config = load_file(str(tmp_path / "main.conf"), {"HOST": "127.0.0.1"})
    assert (config.port, config.host) == (5, "127.0.0.1")


def test_the_digest_is_of_what_is_said_not_how(tmp_path: Path) -> None:
    from leafnode.config.load import load_file

    digests = []
    for text in ("port: 5\nhost: a", "# c\nhost a; port = 5\n", "port: 6\nhost: a"):
        (tmp_path / "a.conf").write_text(text)
        digests.append(load_file(str(tmp_path / "a.conf"), {}).config_digest)
    assert digests[0] == digests[1] != digests[2]
    assert digests[0].startswith("sha256:")
