"""Accounts' JWTs in memory and in a folder."""

from pathlib import Path

import pytest

from leafnode.errors import ConfigError, TrustError
from leafnode.net.resolver import Resolver

ONE, TWO = "A" + "B" * 55, "A" + "C" * 55


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    Resolver(folder=tmp_path).put(ONE, "jwt")
    again = Resolver(folder=tmp_path)
    assert (again.ids(), again.get(ONE), again.get(TWO)) == ([ONE], "jwt", "")


def test_files_put_there_by_hand_count(tmp_path: Path) -> None:
    resolver = Resolver(folder=tmp_path)
    (tmp_path / f"{ONE}.jwt").write_text("one\n")
    assert resolver.get(ONE) == "one"
    (tmp_path / f"{ONE}.jwt").write_text("newer")
    (tmp_path / f"{TWO}.jwt").write_text("two")
    (tmp_path / "notes.jwt").write_text("no account")
    assert resolver.rescan() == [ONE, TWO]
    assert resolver.rescan() == []
    assert (resolver.get(ONE), resolver.ids()) == ("newer", [ONE, TWO])


def test_a_deleted_account_leaves_its_file_under_another_name(tmp_path: Path) -> None:
    resolver = Resolver(folder=tmp_path)
    resolver.put(ONE, "jwt")
    assert resolver.delete(ONE)
    assert not resolver.delete(ONE)
    assert resolver.get(ONE) == ""
    assert [path.name for path in tmp_path.iterdir()] == [f"{ONE}.jwt.deleted"]


def test_there_is_room_for_so_many(tmp_path: Path) -> None:
    resolver = Resolver(folder=tmp_path, limit=1)
    resolver.put(ONE, "jwt")
    resolver.put(ONE, "newer")
    with pytest.raises(TrustError, match="limit of 1"):
        resolver.put(TWO, "jwt")
    (tmp_path / f"{TWO}.jwt").write_text("by hand")
    assert resolver.get(TWO) == ""


@pytest.mark.parametrize("account", ["", "../x", "A/../../etc/passwd", "a" * 56, "A" * 57])
def test_nothing_else_is_written_or_read(tmp_path: Path, account: str) -> None:
    resolver = Resolver(folder=tmp_path)
    with pytest.raises(TrustError):
        resolver.put(account, "jwt")
    assert resolver.get(account) == ""


def test_the_digest_does_not_depend_on_order() -> None:
    one, two = Resolver(), Resolver()
    for resolver, accounts in ((one, (ONE, TWO)), (two, (TWO, ONE))):
        for account in accounts:
            resolver.put(account, f"jwt of {account}")
    assert one.digest() == two.digest() != Resolver().digest()


def test_a_folder_that_is_none_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use the folder"):
        Resolver(folder=tmp_path / "file")
