"""The same files, given to nats-server and to us: accepted by both or refused by both, but for the differences named.

`nats-server -t` only parses; what it would refuse at the start we refuse in the check already.
"""

import subprocess
from pathlib import Path

import pytest

from leafnode.config.flags import configure
from leafnode.errors import ConfigError
from tests.support.servers import nats_server

SECONDS = 20  # for a process that takes a few hundredths


BOTH_ACCEPT = r"""
jetstream
{
  store_dir: "/tmp/x"
}
----
port: 4222; host: 1.2.3.4
----
port: 4222, host: 1.2.3.4,
----
server_name: a#b
----
server_name: a//b
----
"port": 4222
----
port: 4k
----
server_tags [a
b]
----
server_tags: [
# comment
a // other
b # x
]
----
server_tags: ["a", "b",]
----
authorization { user: a, password: b, }
----
authorization: { user: a; password: b }
----
authorization { user: a # c
 password: "b" }
----
server_name: "a\x41b"
----
port
4222
----
accounts { A { users: [
 {user: a, password: b}
 {user: c, password: d}
] } }
----
accounts {
  A { jetstream: enabled }
  B { jetstream: enabled } # c
  C: { }
}
// done
----
foo: 5
port: $foo
----
PORT: 5
----
debug: TRUE
----
ping_interval: 5s
----
write_deadline: "5s"
----
listen: :4222
----
listen: "[::1]:4222"
----
http: ":8222"
----
authorization { timeout: "2s" }
----
authorization { timeout: 0.001 }
----
{"port": 4222, "host": "0.0.0.0", "authorization": {"users": [{"user":"a","password":"b"}]}}
----
{ "server_name": null }
----
server_name: $2a$11$abc
----
server_name: "$foo"
----
port: 5KiB
----
host: yesx
----
authorization { users: [ {user: a} ] }
----
authorization { users: [ {user: a, password: b, permissions: { subscribe: "a q" } } ] }
----
authorization { users: [ {user: a, password: b, permissions: {allow_responses: {max: 5, expires: "1m"}}} ] }
----
accounts [A, B]
----
accounts { A { limits { max_conn: 1, max_subs: 1, max_pay: 1, max_leafs: 2 } } }
----
accounts { A { jetstream: { memory_max_stream_bytes: 1GB, store_max_stream_bytes: 1, max_stream_bytes: true } } }
----
accounts { A { jetstream: { max_mem: 1GB, max_streams: 1, max_consumers: 2, max_ack_pending: 3 } } }
----
accounts { A { exports: [ {service: a, response_type: "Stream", threshold: "1s"} ] } }
----
accounts { A { imports: [ {stream: {account: B, subject: "x"}, to: y} ] }, B { exports: [{stream: x}] } }
----
accounts { A { mappings { a: b, c: [ {destination: d, weight: 60%}, {dest: e, weight: "40%"} ] } } }
----
accounts { "$SYS" { users: [{user: a, password: b}] } }
----
authorization { users: [{user: q, password: q}] }
accounts { A { users: [{user: x, password: y}] } }
----
jetstream: enabled
----
jetstream { enabled: false, store_dir: "/tmp/x" }
----
jetstream { max_mem: 1G, max_file: 10G, max_memory_store: 1, max_mem_store: -1, max_file_store: -1 }
----
jetstream { max_mem: "1G", sync: always, strict: true }
----
leafnodes { remotes: [ {url: "localhost:7422"} ] }
----
leafnodes { remotes: [ {url: "nats://u:p@localhost", deny_imports: "a", deny_exports: ["b", "c"], hub: true} ] }
----
leafnodes { remotes: [ {url: "nats://a", tls: {insecure: true}} ] }
----
leafnodes { port: 7422, reconnect: "5s", reconnect_delay: "1s" }
----
cluster { name: x, listen: "0.0.0.0:6222" }
----
max_conn: 5
max_subs: 6
max_control_line: 1KB
max_pending: 10MB
max_sub_tokens: 5
----
tls { verify: true }
----
websocket { port: 80, no_tls: true, compression: true, same_origin: true, handshake_timeout: "2s" }
----
resolver: MEMORY
----
resolver: URL(http://localhost:1/)
----
server_metadata { a: b }
----
syslog: true
----
remote_syslog: "udp://localhost:514"
----
log_file: "/tmp/x", log_size_limit: 1MB, log_max_num: 3
----
trace_headers: true
----
storedir: "/tmp/x"
----
jetstream { storedir: "/tmp/x", unique_tag: "az:", meta_compact: 1, request_queue_limit: 5 }
----
max_closed_clients: 5
no_fast_producer_stall: true
write_timeout: close
----
feature_flags { some_flag: false }
----
cluster { name: x, listen: "0.0.0.0:6222", no_advertise: true, connect_retries: 3, advertise: "a:1" }
----
websocket { port: 80, no_tls: true, compress: true, allow_origins: ["https://a.example"] }
----
leafnodes { port: 7422, minimum_version: "2.9.0", leafnode_advertise: "a:1", write_timeout: default }
----
accounts_resolver: MEMORY
----
default_js_domain { A: b }
"""

BOTH_REFUSE = r"""
jetstream{
 store_dir: "/tmp/x"
}
----
jetstream:
{
 store_dir: "/tmp/x"
}
----
port 4222 host 1.2.3.4
----
include: "foo"
----
port = = 4222
----
port:
4222
----
port: 1.5
----
port: 1e3
----
max_payload: 1.5MB
----
max_payload: "1MB"
----
port: [1
----
server_tags: [a b]
----
server_tags: [a,,b]
----
server_tags: [a;b]
----
authorization { user: a password: b }
----
server_name: 2026-01-02T15:04:05Z
----
server_name: true
----
server_name: 'it''s'
----
server_name: "a\qb"
----
# only a comment
----
port: $FOO_IS_NOT_DEFINED
----
port: $foo
foo: 5
----
foo: 5
----
debug: 1
----
ping_interval: 5
----
ping_interval: "5"
----
port: "4222"
----
http: "8222"
----
lame_duck_duration: "10s"
----
accounts { A { users: [ {user: a, password: b} {user: c, password: d} ] } }
----
accounts { A { jetstream: enabled } B { jetstream: enabled } }
----
port: 4222,,
----
server_name: "unterminated
----
server_name: (
abc
----
: 4222
----
port
----
include /nowhere/foo.conf
----
authorization { user: a, password: 123 }
----
authorization { users: [ {password: a} ] }
----
authorization { users: {user: a, password: b} }
----
authorization { user: a, token: b}
----
authorization { users: [ {user: a, password: b, permissions: { publish: "a q" } } ] }
----
authorization { users: [ {user: a, password: b, permissions: { foo: "a" } } ] }
----
authorization { users: [ {user: a, password: b, foo: 1 } ] }
----
authorization { users: [ {user: a, password: b}, {user: a, password: c} ] }
----
authorization { users: [ {nkey: UABC} ] }
----
authorization { users: [ {user: a, password: b, allowed_connection_types: ["FOO"]} ] }
----
accounts { A { jetstream: foo } }
----
accounts { A { jetstream: { max_mem: "1G" } } }
----
accounts { A { jetstream: { max_stream_bytes: 1GB } } }
----
accounts { A { exports: [ {stream: a, service: b} ] } }
----
accounts { A { imports: [ {stream: {account: B, subject: "x"}, to: y} ] }, B { } }
----
accounts { A { mappings { c: [ {destination: d, weight: 60%}, {dest: e, weight: 50} ] } } }
----
accounts { "$G" { users: [] } }
----
authorization { user: a, password: b }
accounts { A { users: [{user: x, password: y}] } }
----
jetstream { enabled: enabled }
----
jetstream { storage_dir: x }
----
jetstream { max_mem: "10MB" }
----
jetstream { sync_interval: 10 }
----
leafnodes { remotes: {url: "nats://a"} }
----
leafnodes { remotes: [ {url: "nats://a"}, {url: "nats://a"} ] }
----
leafnodes { remotes: [ {url: "nats://a", tls: {ca_file: "/nowhere/ca.pem"}} ] }
----
leafnodes { listen: "0.0.0.0:7422", min_version: "2.7.0" }
----
leafnodes { authorization { user: a, password: b, users: [{user: c, password: d}] } }
----
cluster { name: "a b" }
----
listen: "foo:bar"
----
store_dir: "/tmp/x"
jetstream { store_dir: "/tmp/y" }
----
write_timeout: sometimes
----
feature_flags { some_flag: 1 }
----
resolver: foo
"""

ONLY_WE_REFUSE = """
{port: 1
----
{port: 1}
port: 2
----
server_name: foo}
----
port: 99999
----
max_payload: 100MB
----
no_auth_user: nobody
----
system_account: NOWHERE
----
leafnodes { remotes: [ {url: "nats://a", account: NOWHERE} ] }
----
leafnodes { remotes: [ {url: "foo://localhost"} ] }
----
leafnodes { remotes: [ {} ] }
----
jetstream { domain: "a b" }
----
mqtt {}
----
remote_syslog: "tcp://localhost:514"
----
feature_flags { some_flag: true }
----
write_timeout: retry
----
http: 8222
https: 8223
----
gateway {}
----
jetstream { key: "abc", cipher: aes }
----
leafnodes { compression: s2_best }
"""
"""docs/leafnode-config.md says why."""


def snippets(text: str) -> list[str]:
    return [part.strip("\n") + "\n" for part in text.split("----\n")]


def reference_accepts(file: Path) -> bool:
    done = subprocess.run([nats_server(), "-t", "-c", str(file)], capture_output=True, timeout=SECONDS, check=False)
    return done.returncode == 0


def we_accept(file: Path) -> bool:
    try:
        return not configure(["-c", str(file)], {}).warnings
    except ConfigError:
        return False


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.conf"


@pytest.mark.parametrize("text", snippets(BOTH_ACCEPT))
def test_both_accept(text: str, file: Path) -> None:
    file.write_text(text)
    assert reference_accepts(file)
    assert we_accept(file)


@pytest.mark.parametrize("text", snippets(BOTH_REFUSE))
def test_both_refuse(text: str, file: Path) -> None:
    file.write_text(text)
    assert not reference_accepts(file)
    assert not we_accept(file)


@pytest.mark.parametrize("text", snippets(ONLY_WE_REFUSE))
def test_only_we_refuse(text: str, file: Path) -> None:
    file.write_text(text)
    assert reference_accepts(file)
    assert not we_accept(file)
