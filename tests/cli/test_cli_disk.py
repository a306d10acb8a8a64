"""``lowtide run`` on a disk that takes no more: the path, the remedy, and the same command goes on."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from commands import (
    LOWTIDE,
    Ended,
    batch_line,
    environment,
    patched,
    read_lines,
    receipt,
    task,
    with_small_files,
    write_tasks,
)

GO_ON = "What was done is kept: repeat the command when that is mended"


def mounts() -> bool:
    """May this user mount a file system of its own, in a namespace of its own?"""
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return tried.returncode == 0


needs_mount = pytest.mark.skipif(not mounts(), reason="this machine lets no user mount a file system of its own")


def on_a_small_disk(
    disk: Path, small: str, large: str, command: list[str], keep: Path
) -> tuple[Ended, Ended, list[str]]:
    """The command on a disk of ``small``, and once more when it has grown to ``large``; DIR is then copied to ``keep``.
    Also the names that lay in DIR after the first."""
    script = (
        f"mount -t tmpfs -o size={small} none {disk} || exit 99; "
        f'"$@" >{keep}/1.out 2>{keep}/1.err; echo $? >{keep}/1.code; ls -A {disk}/out >{keep}/1.ls; '
        f"mount -o remount,size={large} {disk} || exit 99; "
        f'"$@" >{keep}/2.out 2>{keep}/2.err; echo $? >{keep}/2.code; cp -r {disk}/out {keep}/out'
    )
    wrapped = ["unshare", "-rm", "sh", "-c", script, "sh", *command]
    assert subprocess.run(wrapped, env=environment(), check=False, timeout=300).returncode == 0

    def ended(number: int) -> Ended:
        out, err, code = ((keep / f"{number}.{what}").read_text() for what in ("out", "err", "code"))
        return Ended(int(code), out, err)

    return ended(1), ended(2), (keep / "1.ls").read_text().split()


@needs_mount
@pytest.mark.parametrize("small", ["700k", "1900k"])
def test_a_full_disk_is_named_and_once_there_is_room_the_same_command_goes_on(provider, tmp_path, small):
    """It has no room for all tasks, or for the last of their answers."""
    prompts = [f"{number} " * 1_000 for number in range(60)]
    lines = [task(f"t{n}", prompt=prompt) for n, prompt in enumerate(prompts[:40])]
    lines += [batch_line(f"b{n}", prompt) for n, prompt in enumerate(prompts[40:])]
    tasks, disk, keep = write_tasks(tmp_path / "tasks.jsonl", lines), tmp_path / "disk", tmp_path / "keep"
    disk.mkdir()
    keep.mkdir()
    command = [*LOWTIDE, "run", str(tasks), "--out", str(disk / "out"), "--base-url", provider.url]
    first, second, lay = on_a_small_disk(disk, small, "200m", command, keep)
    assert first.code == 1
    last = first.err.splitlines()[-1]
    assert last.startswith(f"lowtide: {disk / 'out'}/"), last
    assert "make room there" in last
    assert last.endswith(GO_ON)
    assert "Traceback" not in first.err
    assert "defect" not in first.err
    assert not [name for name in lay if name.endswith(".partial")]
    assert second.code == 0, second.err
    assert receipt(keep / "out")["answered"] == len(lines)
    assert len({record["task_id"] for record in read_lines(keep / "out" / "results.jsonl")}) == len(lines)


@needs_mount
def test_a_disk_that_is_read_only_is_wrong_usage(provider, tmp_path):
    tasks, disk = write_tasks(tmp_path / "tasks.jsonl", [task("a")]), tmp_path / "disk"
    disk.mkdir()
    command = [*LOWTIDE, "run", str(tasks), "--out", str(disk / "out"), "--base-url", provider.url]
    script = f'mount -t tmpfs -o ro none {disk} || exit 99; exec "$@"'
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == f"lowtide: cannot write to --out {disk / 'out'}: Read-only file system\n"


@pytest.mark.parametrize("size", [40_000, 300_000])
def test_a_limit_on_the_size_of_files_is_named_with_the_file_and_the_run_goes_on_without_it(provider, tmp_path, size):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task(f"t{n}", prompt=f"{n} " * 2_000) for n in range(60)])
    out = tmp_path / "out"
    ended = provider.run(tasks, out, program=with_small_files(size))
    last = ended.err.splitlines()[-1]
    assert ended.code == 1
    assert last.startswith(f"lowtide: {out}/")
    assert "ulimit -f" in last
    assert last.endswith(GO_ON)
    assert provider.run(tasks, out).code == 0
    assert receipt(out)["answered"] == 60


def test_an_answer_that_cannot_be_kept_ends_the_run_at_once_and_is_not_bought_again_and_again(provider, tmp_path):
    """GIVEN a disk that takes rows and no objects WHEN a large answer comes THEN its call is not repeated for ever."""
    refusing = patched(
        "import errno, lowtide_local.engine.objects as objects\n"
        "def full(*_): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "objects.FileObjects._put = full\n"
        "import lowtide.steps.deliver as deliver; deliver.INLINE_BYTES = 1"
    )
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("large")])
    before = len(provider.billed())
    ended = provider.run(tasks, tmp_path / "out", program=refusing)
    assert ended.code == 1
    assert "No space left on device; make room there" in ended.err
    assert len(provider.billed()) == before + 1
    assert provider.run(tasks, tmp_path / "out").code == 0
    assert len(provider.billed()) == before + 2
    assert receipt(tmp_path / "out")["repaid"] == 1


def test_a_temporary_directory_without_room_is_named(provider, tmp_path):
    refusing = patched(
        "import errno, tempfile\n"
        "class Full:\n"
        "    def __enter__(self): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    def __exit__(self, *_): pass\n"
        "import lowtide.adapters.openai.downloads as downloads; downloads.TemporaryFile = Full"
    )
    tasks = write_tasks(tmp_path / "tasks.jsonl", [batch_line("a")])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    ended = provider.run(tasks, tmp_path / "out", program=refusing, TMPDIR=str(scratch))
    last = ended.err.splitlines()[-1]
    assert ended.code == 1
    assert last.startswith(f"lowtide: {scratch}, which holds temporary files (TMPDIR names another): No space left")
    assert last.endswith(GO_ON)
    assert provider.run(tasks, tmp_path / "out").code == 0
    assert receipt(tmp_path / "out")["answered"] == 1


@needs_mount
def test_a_small_temporary_directory_is_named_and_with_another_the_same_command_goes_on(provider, tmp_path):
    lines = [batch_line(f"b{n}", f"{n} " * 2_000) for n in range(40)]
    tasks, scratch = write_tasks(tmp_path / "tasks.jsonl", lines), tmp_path / "scratch"
    scratch.mkdir()
    command = [*LOWTIDE, "run", str(tasks), "--out", str(tmp_path / "out"), "--base-url", provider.url]
    script = f'mount -t tmpfs -o size=32k none {scratch} || exit 99; exec "$@"'
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command],
        env=environment(TMPDIR=str(scratch)),
        capture_output=True,
        text=True,
        check=False,
    )
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1
    assert last.startswith(f"lowtide: {scratch}, which holds temporary files (TMPDIR names another): No space left"), (
        last
    )
    assert last.endswith(GO_ON)
    assert provider.run(tasks, tmp_path / "out").code == 0
    assert receipt(tmp_path / "out")["answered"] == len(lines)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no device that is always full")
def test_an_output_that_is_full_is_not_laid_to_a_file_of_the_run(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a")])
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*LOWTIDE, "run", str(tasks), "--out", str(tmp_path / "out"), "--base-url", provider.url],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "lowtide: standard output: No space left on device; make room there"
    assert receipt(tmp_path / "out")["answered"] == 1


@needs_mount
def test_a_demo_on_a_full_disk_names_the_record(tmp_path):
    script = f'mount -t tmpfs -o size=64k none {tmp_path} || exit 99; cd {tmp_path}; exec "$@"'
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *LOWTIDE, "demo", "--tasks", "60"],
        env=environment(TMPDIR="/dev/shm"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == "lowtide: out/results.jsonl: No space left on device; make room there\n"


def test_everything_that_a_run_leaves_is_this_user_s_alone(provider, tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b"), {"broken": True}])
    out = tmp_path / "out"
    before = os.umask(0)
    try:
        assert provider.run(tasks, out).code == 3
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in [out, *out.rglob("*")]}
    assert {name: oct(mode) for name, mode in modes.items() if mode not in (0o600, 0o700)} == {}
    assert modes["out"] == modes["out/.lowtide"] == 0o700
    assert {
        f"out/{name}" for name in ("results.jsonl", "receipt.json", "report.html", ".lowtide/state.db")
    } <= modes.keys()
    assert json.loads((out / "receipt.json").read_bytes())["answered"] == 2
