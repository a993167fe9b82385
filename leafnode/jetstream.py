"""JetStream as the configuration has it: its folder, its bounds, and which accounts have how much of it.

Imported only where JetStream is on: a broker without it starts faster and smaller.
"""

import tempfile
from pathlib import Path

from leafnode.config.options import GLOBAL_ACCOUNT, AccountJetStream, Config, JetStreamConfig
from leafnode.errors import LeafnodeError, StoreError
from leafnode.net.storage import Storage
from leafnode.stream.journal import FULL_BYTES, FULL_MESSAGES, Journal
from leafnode.stream.surroundings import Limits

NS_PER_S = 1_000_000_000


async def open_storage(folder: Path, config: JetStreamConfig) -> Storage:
    """Raises LeafnodeError when it cannot be used."""
    try:
        return await Storage.open(
            folder,
            journal=journal(config),
            synchronous="FULL" if config.sync == "always" else "NORMAL",
            min_free=config.min_free_store,
        )
    except StoreError as error:
        raise LeafnodeError(f"Can't start JetStream: {error}") from error


def store_folder(config: JetStreamConfig) -> Path:
    """Raises LeafnodeError where it cannot be one."""
    folder = Path(config.store_dir) if config.store_dir else Path(tempfile.gettempdir()) / "leafnode"
    if folder.exists() and not folder.is_dir():
        raise LeafnodeError(f"Can't start JetStream: storage directory is not a directory: {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LeafnodeError(
            f"Can't start JetStream: could not create storage directory - {folder}: {error.strerror}"
        ) from error
    return folder


def journal(config: JetStreamConfig) -> Journal:
    """With the configuration's bounds of what may be on its way to the disk, or its own."""
    messages, size = config.max_buffered_msgs, config.max_buffered_size
    return Journal(
        full_messages=messages if messages > 0 else FULL_MESSAGES, full_bytes=size if size > 0 else FULL_BYTES
    )


def jetstream_accounts(config: Config) -> list[tuple[str, Limits]]:
    """Accounts with JetStream: those that say so, or the global one where there are no others."""
    if not config.accounts.keys() - {config.system_account}:
        return [(GLOBAL_ACCOUNT, account_limits(config.jetstream, AccountJetStream()))]
    enabled = [(account.name, account.jetstream) for account in config.accounts.values() if account.jetstream]
    return [(name, account_limits(config.jetstream, limits)) for name, limits in enabled]


def account_limits(server: JetStreamConfig, account: AccountJetStream) -> Limits:
    """The account's limits; the server's stores bound them."""
    window_s = server.limits.duplicate_window_s
    return Limits(
        server_max_ack_pending=server.limits.max_ack_pending,
        max_request_batch=server.limits.max_request_batch,
        duplicate_window_ns=round(window_s * NS_PER_S) if window_s else -1,
        max_streams=account.max_streams,
        max_consumers=account.max_consumers,
        max_memory=lower(account.max_memory, server.max_memory_store),
        max_storage=lower(account.max_file, server.max_file_store),
        max_ack_pending=account.max_ack_pending,
        memory_max_stream_bytes=account.memory_max_stream_bytes,
        storage_max_stream_bytes=account.store_max_stream_bytes,
        max_bytes_required=account.max_bytes_required,
        tier=account.tier,
    )


def lower(one: int, two: int) -> int:
    """The lower of two limits, of which a negative one is none."""
    return max(one, two) if one < 0 or two < 0 else min(one, two)
