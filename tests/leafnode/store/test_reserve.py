"""Space kept for cleaning up."""

from pathlib import Path

from leafnode.store.reserve import Reserve


def test_it_takes_space_once_and_gives_it_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 10_000)
    assert reserve.take()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 10_000
    assert reserve.take()
    reserve.release()
    assert not (tmp_path / "reserve").exists()
    reserve.release()


def test_a_disk_without_space_leaves_nothing_behind(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 1 << 60)
    assert not reserve.take()
    assert not (tmp_path / "reserve").exists()


def test_a_folder_that_is_gone_is_a_disk_without_space(tmp_path: Path) -> None:
    assert not Reserve(tmp_path / "gone" / "reserve", 1).take()
