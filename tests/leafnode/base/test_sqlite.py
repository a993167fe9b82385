"""Opening a database: migrated in whole steps, durable as asked, refused with reasons."""

from pathlib import Path

import pytest

from leafnode.base.sqlite import DatabaseError, open_database

ONE = "CREATE TABLE a (x INTEGER)"
TWO = "ALTER TABLE a ADD COLUMN y TEXT; INSERT INTO a VALUES (1, 'one')"
BROKEN = "CREATE TABLE b (x INTEGER); INSERT INTO nowhere VALUES (1)"


async def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    for migrations in ([ONE], [ONE, TWO], [ONE, TWO]):
        db = await open_database(tmp_path / "a.db", migrations)
        await db.close()
    db = await open_database(tmp_path / "a.db", [ONE, TWO])
    try:
        assert await db.execute_fetchall("SELECT * FROM a") == [(1, "one")]
        assert await db.execute_fetchall("PRAGMA journal_mode") == [("wal",)]
        assert await db.execute_fetchall("PRAGMA synchronous") == [(2,)]
    finally:
        await db.close()


async def test_synchronous_is_chosen_by_the_caller(tmp_path: Path) -> None:
    db = await open_database(tmp_path / "a.db", [ONE], synchronous="NORMAL")
    try:
        assert await db.execute_fetchall("PRAGMA synchronous") == [(1,)]
    finally:
        await db.close()


async def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="nowhere"):
        await open_database(tmp_path / "a.db", [ONE, BROKEN])
    db = await open_database(tmp_path / "a.db", [ONE])
    try:
        assert await db.execute_fetchall("SELECT name FROM sqlite_master") == [("a",)]
    finally:
        await db.close()


async def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    db = await open_database(tmp_path / "a.db", [ONE, TWO])
    await db.close()
    with pytest.raises(DatabaseError, match=r"a\.db: has version 2, this program knows 1"):
        await open_database(tmp_path / "a.db", [ONE])


async def test_what_is_not_a_database_is_refused_and_untouched(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    file.write_bytes(b"hello, " * 1000)
    with pytest.raises(DatabaseError, match=r"a\.db: is not a SQLite database"):
        await open_database(file, [ONE])
    assert file.read_bytes() == b"hello, " * 1000


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"gone/a\.db: cannot be opened"):
        await open_database(tmp_path / "gone" / "a.db", [ONE])
