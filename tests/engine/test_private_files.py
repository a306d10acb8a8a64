"""What an engine and a run keep is this user's alone, whatever the umask, and no link leads it elsewhere."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lowtide.core.errors import LowtideError
from lowtide.ports import Outgoing
from lowtide_local import disk
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from lowtide_local.report.files import write_by_rename, write_json, write_jsonl


class StillClock:
    def now(self) -> datetime:
        return datetime(2026, 11, 2, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(b"somebody's own")
    return path


def opened(directory: Path) -> Engine:
    return Engine.open(directory, StillClock(), Durability.FULL)


def used(directory: Path) -> None:
    with opened(directory) as engine:
        engine.queue("intake").send([Outgoing("a body")])
        engine.objects.put("parts/one/a", b"prompts")
        engine.meta.set("a", "b")
        lay = {path.name for path in directory.iterdir()}
        assert {"state.db", "state.db-wal", "state.db-shm", "state.db.lock", "objects"} <= lay
        assert open_to_others(directory) == []


def open_to_others(directory: Path) -> list[str]:
    return [
        f"{path} {stat.filemode(path.lstat().st_mode)}"
        for path in [directory, *directory.rglob("*")]
        if stat.S_IMODE(path.lstat().st_mode) != (0o700 if path.is_dir() else 0o600)
    ]


def test_state_is_closed_to_others_whatever_the_umask(tmp_path, umask):
    used(tmp_path / "deep" / "state")
    assert open_to_others(tmp_path / "deep" / "state") == []


def test_records_are_closed_to_others_whatever_the_umask_and_whatever_was_there(tmp_path, umask):
    (tmp_path / "old.jsonl").touch(0o644)
    write_by_rename(tmp_path / "report.html", b"<html>")
    write_json(tmp_path / "receipt.json", {})
    assert write_jsonl(tmp_path / "old.jsonl", [{"a": 1}]) == 1
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("report.html", "receipt.json", "old.jsonl"), 0o600)


def test_state_of_before_that_was_open_to_others_is_closed(tmp_path):
    used(tmp_path / "state")
    for path in (tmp_path / "state", tmp_path / "state" / "objects"):
        path.chmod(0o755)
    for name in ("state.db", "state.db.lock"):
        (tmp_path / "state" / name).chmod(0o644)
    used(tmp_path / "state")


def test_a_directory_that_was_there_keeps_its_mode_where_it_holds_records_alone(tmp_path):
    (tmp_path / "out").mkdir(0o755)
    disk.make_directory(tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["report.html", ".report.html.partial"])
@pytest.mark.parametrize("to", ["victim", "nothing"])
def test_a_link_in_the_place_of_a_record_is_replaced_and_not_followed(tmp_path, victim, name, to):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).symlink_to(tmp_path / to)
    write_by_rename(out / "report.html", b"ours")
    assert victim.read_bytes() == b"somebody's own"
    assert not (tmp_path / "nothing").exists()
    assert [path.name for path in out.iterdir()] == ["report.html"]
    assert not (out / "report.html").is_symlink()
    assert (out / "report.html").read_bytes() == b"ours"


def test_a_hard_link_in_the_place_of_a_partial_file_is_not_written_to(tmp_path, victim):
    os.link(victim, tmp_path / ".report.html.partial")
    write_by_rename(tmp_path / "report.html", b"ours")
    assert victim.read_bytes() == b"somebody's own"


def test_a_record_that_the_disk_takes_no_more_of_is_named_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "results.jsonl").write_bytes(b"old\n")

    def rows() -> Iterator[bytes]:
        yield b"{}"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        write_jsonl(tmp_path / "results.jsonl", rows())
    told = disk.told(caught.value, unnamed="a file without a name")
    assert told == f"{tmp_path / 'results.jsonl'}: No space left on device; make room there"
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]
    assert (tmp_path / "results.jsonl").read_bytes() == b"old\n"


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EDQUOT, "have the quota raised"),
        (errno.EROFS, "mount it for writing"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EACCES, "owner and mode"),
        (errno.EIO, "disk is well"),
    ],
)
def test_what_the_disk_says_comes_with_its_path_and_what_to_do(tmp_path, monkeypatch, code, remedy):
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with opened(tmp_path / "state") as engine:
        monkeypatch.setattr("os.replace", refuse)
        monkeypatch.setattr("pathlib.Path.replace", refuse)
        with pytest.raises(disk.DiskFault, match=remedy) as caught:
            engine.objects.put("parts/a", b"one")
    assert str(caught.value).startswith(f"{tmp_path / 'state' / 'objects' / 'parts' / 'a'}: {os.strerror(code)}; ")


def test_a_step_that_goes_on_after_any_error_does_not_go_on_after_this_one():
    assert not issubclass(disk.DiskFault, Exception)
    fault = disk.DiskFault("here", "full")
    assert disk.fault_in(BaseExceptionGroup("a", [ValueError(), BaseExceptionGroup("b", [fault])])) == "here: full"
    assert disk.fault_in(ExceptionGroup("a", [ValueError()])) is None


def test_a_temporary_file_is_named_by_its_directory_even_where_no_directory_takes_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    group = ExceptionGroup("a", [ValueError(), OSError(errno.ENOSPC, "No space left on device")])
    assert disk.fault_in(group) == (
        f"{tmp_path}, which holds temporary files (TMPDIR names another): No space left on device; make room there"
    )

    def none_found() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none_found)
    assert str(disk.fault_in(group)).startswith("the directory of temporary files (TMPDIR names another): No space")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EPERM, errno.ECONNREFUSED])
def test_an_error_that_a_socket_may_have_met_is_laid_to_no_file(code):
    error = OSError(code, os.strerror(code))
    assert disk.told(error, unnamed="standard output").startswith(os.strerror(code))


@pytest.mark.parametrize(
    "name",
    ["state.db", "state.db.lock", "state.db-wal", "state.db-shm", "state.db-journal", "objects"],
)
@pytest.mark.parametrize("to", ["victim", "elsewhere", "nothing"])
def test_state_is_not_kept_behind_a_link(tmp_path, victim, name, to):
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    state.mkdir()
    elsewhere.mkdir()
    (state / name).symlink_to(tmp_path / to)
    with pytest.raises(LowtideError, match=f"{name} is a symbolic link; remove it, or use another directory"):
        opened(state)
    assert victim.read_bytes() == b"somebody's own"
    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "nothing").exists()
    (state / name).unlink()
    used(state)


@pytest.mark.parametrize("name", ["state.db", "state.db.lock", "state.db-wal", "state.db-shm", "state.db-journal"])
def test_state_is_not_kept_in_a_file_that_has_a_second_name(tmp_path, victim, name):
    (tmp_path / "state").mkdir()
    os.link(victim, tmp_path / "state" / name)
    victim.chmod(0o644)
    with pytest.raises(LowtideError, match=rf"{name} has a second name \(a hard link\); put a copy in its place"):
        opened(tmp_path / "state")
    assert victim.read_bytes() == b"somebody's own"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o644
    (tmp_path / "state" / name).unlink()
    used(tmp_path / "state")


def test_an_object_that_has_a_second_name_is_replaced_and_not_written_to(tmp_path, victim):
    with opened(tmp_path / "state") as engine:
        engine.objects.put("parts/a", b"one")
        path = tmp_path / "state" / "objects" / "parts" / "a"
        path.unlink()
        os.link(victim, path)
        engine.objects.put("parts/a", b"two")
        assert engine.objects.get("parts/a") == b"two"
    assert victim.read_bytes() == b"somebody's own"


def test_no_object_is_put_or_lost_behind_a_link(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with opened(tmp_path / "state") as engine:
        (tmp_path / "state" / "objects" / "parts").symlink_to(elsewhere)
        for key in ("parts/a", "parts/deep/er/a"):
            with pytest.raises(disk.DiskFault, match="objects/parts: a symbolic link is in the place of a directory"):
                engine.objects.put(key, b"one")
    assert list(elsewhere.iterdir()) == []


def test_what_a_killed_process_of_before_left_open_to_others_is_closed(tmp_path):
    """SQLite gives its mode to the files that it makes, and not to those that it finds."""
    with opened(tmp_path / "state") as engine:
        engine.meta.set("a", "b")
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            shutil.copy(tmp_path / "state" / name, tmp_path / name)
    for name in ("state.db", "state.db-wal", "state.db-shm"):
        shutil.copy(tmp_path / name, tmp_path / "state" / name)
        (tmp_path / "state" / name).chmod(0o644)
    with opened(tmp_path / "state") as engine:
        assert engine.meta.get("a") == "b"
        assert open_to_others(tmp_path / "state") == []


def test_a_disk_that_no_longer_takes_a_removal_ends_the_process(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with opened(tmp_path / "state") as engine:
        engine.objects.put("parts/a", b"one")
        monkeypatch.setattr("pathlib.Path.unlink", refuse)
        with pytest.raises(disk.DiskFault, match="parts/a: Read-only file system; mount it for writing"):
            engine.objects.delete(["parts/a"])


def test_a_file_system_without_locks_is_not_taken_for_another_process(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match=r"No locks available: '.*state\.db\.lock'"):
        opened(tmp_path / "state")


def test_a_state_directory_is_no_link_and_what_it_is_in_may_be_one(tmp_path):
    (tmp_path / "large-disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large-disk")
    used(tmp_path / "out" / ".lowtide")
    (tmp_path / "linked").symlink_to(tmp_path / "out" / ".lowtide")
    with pytest.raises(LowtideError, match="linked is a symbolic link"):
        opened(tmp_path / "linked")


def test_a_link_in_the_place_of_what_is_being_written_is_removed(tmp_path, victim):
    objects = tmp_path / "state" / "objects"
    objects.mkdir(parents=True)
    (objects / ".unfinished").symlink_to(tmp_path)
    used(tmp_path / "state")
    assert victim.read_bytes() == b"somebody's own"
    assert not (objects / ".unfinished").is_symlink()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
@pytest.mark.parametrize("name", ["state.db", "state.db.lock"])
def test_something_else_in_the_place_of_a_file_is_named_and_keeps_nobody_waiting(tmp_path, make, name):
    (tmp_path / "state").mkdir()
    make(tmp_path / "state" / name)
    with pytest.raises(LowtideError, match=rf"{name} is (no file|a directory); remove it, or use another directory"):
        opened(tmp_path / "state")


def test_a_state_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    (tmp_path / "state").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(LowtideError, match="belongs to another user; use another directory"):
        opened(tmp_path / "state")
