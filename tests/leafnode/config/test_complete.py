"""Every key and flag that nats-server 2.15 knows: we act on it, or refuse it by name and say why. None is forgotten.

The lists are those of nats-server's server/opts.go. Blocks that are refused as a whole (gateway, mqtt) are left out.
"""

import pytest

from leafnode.config.flags import GROUPS, REFUSED
from leafnode.config.load import load_text, tables
from leafnode.errors import ConfigError

KEYS = {
    "": """
        account_resolver accounts accounts_resolver allow_non_tls authorization client_advertise cluster
        connect_error_reports debug default_js_domain default_sentinel disable_sublist_cache feature_flags gateway
        host http http_base_path http_port https https_port jetstream lame_duck_duration lame_duck_grace_period leaf
        leafnodes listen log_file log_max_num log_size_limit logfile logfile_max_num logfile_size_limit logtime
        logtime_utc mappings maps max_closed_clients max_conn max_connections max_control_line max_payload
        max_pending max_sub_tokens max_subs max_subscription_tokens max_subscriptions max_traced_msg_len
        monitor_port mqtt net no_auth_user no_fast_producer_stall no_header_support no_sublist_cache no_sys_acc
        no_system no_system_account ocsp ocsp_cache operator operators pid_file pidfile ping_interval ping_max port
        ports_file_dir prof_block_rate prof_port proxies proxy_protocol reconnect_error_reports remote_syslog
        resolver resolver_pinned_accounts resolver_preload resolver_tls root root_operator root_operators roots
        server_metadata server_name server_tags store_dir storedir syslog system system_account tls trace
        trace_headers trace_verbose trusted trusted_keys websocket write_deadline write_timeout ws
    """,
    "jetstream": """
        cipher domain ek enable enabled encryption_key extension_hint info_queue_limit key limits max_buffered_msgs
        max_buffered_size max_concurrent_io max_file max_file_store max_mem max_mem_store max_memory_store
        max_outstanding_catchup meta_compact meta_compact_size meta_compact_sync prev_ek prev_encryption_key
        prev_key request_queue_limit store store_dir storedir strict sync sync_interval tpm unique_tag
    """,
    "jetstream.limits": "batch duplicate_window max_ack_pending max_ha_assets max_request_batch",
    "cluster": """
        accounts advertise authorization cluster_advertise compression connect_backoff connect_retries host listen
        name net no_advertise permissions ping_interval ping_max pool_size port routes tls write_deadline
        write_timeout
    """,
    "leafnodes": """
        advertise authorization compression dial_timeout host isolate isolate_leafnode_interest leafnode_advertise
        listen min_version minimum_version net no_advertise port reconnect reconnect_delay reconnect_interval
        remotes tls write_deadline write_timeout
    """,
    "leafnodes.authorization": "account nkey pass password proxy_required timeout user username users",
    "leafnodes.authorization.users[]": "account pass password proxy_required user username",
    "leafnodes.remotes[]": """
        account compression credentials creds deny_export deny_exports deny_import deny_imports dial_timeout
        disabled dont_randomize first_info_timeout hub ignore_discovered_servers isolate isolate_leafnode_interest
        jetstream_cluster_migrate js_cluster_migrate local nkey no_randomize proxy request_isolation seed tls url
        urls websocket_compress websocket_compression websocket_no_masking ws_compress ws_compression ws_no_masking
    """,
    "websocket": """
        advertise allow_origin allow_origins allowed_origin allowed_origins authentication authorization compress
        compression handshake_timeout headers host jwt_cookie listen net no_auth_user no_tls origin origins
        pass_cookie ping_interval port same_origin tls token_cookie user_cookie
    """,
    "tls": """
        allow_insecure_cipher_suites ca_certs_match ca_file cert_file cert_match cert_match_by
        cert_match_skip_invalid cert_store certificates certs cipher_suites connection_rate_limit curve_preferences
        first handshake_first immediate insecure key_file min_version ocsp_peer pinned_certs timeout verify
        verify_and_map verify_cert_and_check_known_urls
    """,
    "authorization": """
        auth_callout auth_hook default_permission default_permissions pass password permissions proxy_required
        timeout token user username users
    """,
    "users[]": """
        allowed_connection_types authorization clients connection_types nkey pass password permission permissions
        proxy_required user username
    """,
    "permissions": "allow_responses export import pub publish publish_allow_responses sub subscribe",
    "permissions.allow_responses": "expiration expires max max_messages max_msgs max_responses ttl",
    "accounts.*": "default_permissions exports imports jetstream limits mappings maps msg_trace nkey trace_dest users",
    "accounts.*.jetstream": """
        cluster_traffic consumers disk disk_max_stream_bytes enable enabled max_ack_pending max_bytes
        max_bytes_required max_consumers max_disk max_file max_mem max_memory max_store max_stream_bytes max_streams
        mem mem_max_stream_bytes memory memory_max_stream_bytes store store_max_stream_bytes streams
    """,
    "accounts.*.limits": """
        max_conn max_connections max_leafnodes max_leafs max_pay max_payload max_subs max_subscriptions
    """,
    "accounts.*.exports[]": """
        account_token_position accounts allow_trace latency response response_max_time response_threshold
        response_time response_type service stream threshold
    """,
    "accounts.*.imports[]": "allow_trace prefix service share stream to",
    "mappings.*[]": "cluster dest destination weight",
    "resolver": "allow_delete dir hard_delete interval limit timeout ttl type",
}
FLAGS = """
    h help port p n name server_name addr a net client_advertise D debug V VV trace DV DVV T logtime logtime_utc
    user pass auth m http_port ms https_port c config t sl signal P pid ports_file_dir l log log_size_limit s syslog
    r remote_syslog version v profile routes cluster cluster_listen cluster_advertise no_advertise connect_retries
    cluster_name help_tls tls tlsverify tlscert tlskey tlscacert max_traced_msg_len js jetstream sd store_dir
"""
TABLES = {table.path: table for table in tables()}


@pytest.mark.parametrize("path", list(KEYS), ids=lambda path: path or "top level")
def test_no_key_of_nats_server_is_unknown(path: str) -> None:
    table = TABLES[path]
    assert set(KEYS[path].split()) - table.names.keys() - table.unsupported.keys() == set()


@pytest.mark.parametrize("path", list(TABLES), ids=lambda path: path or "top level")
def test_what_is_refused_is_refused_with_a_reason(path: str) -> None:
    table = TABLES[path]
    assert all(table.unsupported.values())
    assert not table.unsupported.keys() & table.names.keys()


def test_a_refusal_says_where_and_why() -> None:
    with pytest.raises(ConfigError, match=r"does not support 'mqtt' \(line 2\): it speaks NATS only; remove the block"):
        load_text("port: 4222\nmqtt { port: 1883 }\n")


def test_no_flag_of_nats_server_is_unknown() -> None:
    known = {name for flags in GROUPS.values() for flag in flags for name in flag.names}
    assert set(FLAGS.split()) - known - REFUSED.keys() == set()
