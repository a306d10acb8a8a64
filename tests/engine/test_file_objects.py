from __future__ import annotations

import io
from pathlib import Path

import pytest

from lowtide_local.engine.database import Durability
from lowtide_local.engine.objects import FileObjects


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def objects(root: Path) -> FileObjects:
    return FileObjects(root, Durability.FULL)


@pytest.mark.parametrize(
    "key",
    [
        *("", "/etc/passwd", "../secret", "parts/../../secret", "parts/..", "parts//a", "parts/"),
        *(".", "./a", "a\x00b", "parts/.hidden", ".unfinished/0", "..\\secret"),
    ],
)
def test_a_key_never_leads_out_of_the_root(objects: FileObjects, root: Path, key: str) -> None:
    (root.parent / "secret").write_bytes(b"secret")
    with pytest.raises(ValueError, match="no key"):
        objects.put(key, b"mine")
    with pytest.raises(ValueError, match="no key"):
        objects.get(key)
    with pytest.raises(ValueError, match="no key"):
        objects.delete([key])
    assert (root.parent / "secret").read_bytes() == b"secret"


def test_a_prefix_never_leads_out_of_the_root(objects: FileObjects, root: Path) -> None:
    (root.parent / "secret").write_bytes(b"secret")
    with pytest.raises(ValueError, match="no key"):
        list(objects.keys("../"))


class Breaking(io.BytesIO):
    """A source that fails after its first block."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError("the source broke")
        return super().read(4)


def test_a_put_that_breaks_off_leaves_the_old_object_and_no_other(objects: FileObjects) -> None:
    objects.put("parts/a", b"old")
    with pytest.raises(OSError, match="the source broke"):
        objects.put("parts/a", Breaking(b"new and longer"))
    assert objects.get("parts/a") == b"old"
    assert list(objects.keys("")) == ["parts/a"]


def test_what_a_dead_process_was_writing_is_cleared(objects: FileObjects, root: Path) -> None:
    with pytest.raises(OSError, match="the source broke"):
        objects.put("parts/a", Breaking(b"half"))
    assert list((root / ".unfinished").iterdir())
    FileObjects(root, Durability.FULL)
    assert not list((root / ".unfinished").iterdir())


def test_a_reader_keeps_the_object_that_it_opened(objects: FileObjects) -> None:
    objects.put("parts/a", b"one\ntwo\n")
    lines = objects.lines("parts/a")
    assert next(lines) == b"one"
    objects.put("parts/a", b"other\n")
    assert list(lines) == [b"two"]
    objects.delete(["parts/a"])


def test_a_put_is_synced_where_it_must_outlive_the_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    FileObjects(root, Durability.RELAXED).put("parts/a", b"one")
    assert synced == []
    FileObjects(root, Durability.FULL).put("batches/a", b"one")
    assert len(synced) == 3  # the file, its new directory's name, its own name
