"""Secure erase: after the answer the bytes are in none of the store's files."""

from pathlib import Path

import nats

from tests.support.servers import jetstream, leafnode

SMALL, BIG = 50, 900  # repetitions: a row in its page, and one that spills over into pages of its own


def secret(number: int) -> bytes:
    return b"SECRET-%03d-" % number


def found(folder: Path, number: int) -> bool:
    return any(secret(number) in file.read_bytes() for file in (folder / "js").iterdir())


async def test_erased_bytes_are_in_no_file(tmp_path: Path) -> None:
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await nats.connect(broker.url, allow_reconnect=False)
        js = client.jetstream()
        await js.add_stream(name="S", subjects=["s.>"])
        for number in range(1, 121):
            await js.publish(f"s.{number % 7}", secret(number) * (SMALL if number % 3 else BIG))
        erased = (3, 50, 51, 119, 120)
        assert all(found(tmp_path, number) for number in erased)
        for number in erased:
            assert await js.delete_msg("S", number)
        assert not [number for number in erased if found(tmp_path, number)]
        assert found(tmp_path, 52)
        assert (await js.get_msg("S", 52)).data == secret(52) * SMALL
        await client.close()


async def test_without_erasing_a_deletion_is_cheap(tmp_path: Path) -> None:
    """The log is left as it is."""
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await nats.connect(broker.url, allow_reconnect=False)
        js = client.jetstream()
        await js.add_stream(name="S", subjects=["s"])
        for number in (1, 2):
            await js.publish("s", secret(number))
        await client.request("$JS.API.STREAM.MSG.DELETE.S", b'{"seq":1,"no_erase":true}')
        assert (await js.stream_info("S")).state.messages == 1
        assert found(tmp_path, 1)
        await client.close()
