"""Promises of the repository itself: links, pins, layers, and what a fresh machine needs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lowtide

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = ROOT / "functions"
ADR_HEADINGS = ["Decided", "Why", "Turned down", "It costs"]


def repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def pages() -> list[Path]:
    return [path for path in repository_files() if path.suffix == ".md"]


def prose(page: Path) -> str:
    return re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def test_every_relative_link_in_the_docs_leads_somewhere():
    broken = {str(page.relative_to(ROOT)): links for page in pages() if (links := broken_links(page))}
    assert broken == {}


def test_every_make_target_that_the_docs_name_exists():
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    named = {
        target
        for page in pages()
        for pair in re.findall(r"`make ([a-z0-9-]+)|^make ([a-z0-9-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        for target in pair
        if target
    }
    assert named
    assert named <= targets


def test_the_newest_entry_of_the_changelog_is_the_version_and_so_says_the_code():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert newest is not None
    assert newest[1] == project["version"] == lowtide.__version__


def test_every_decision_has_a_number_of_its_own_and_says_what_why_what_not_and_at_what_cost():
    decisions = {int(path.name[:4]): path for path in sorted((ROOT / "docs" / "adr").glob("*.md"))}
    assert len(decisions) == len(list((ROOT / "docs" / "adr").glob("*.md")))
    for number, path in decisions.items():
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. "), path.name
        assert re.findall(r"(?m)^\*\*([^*]+)\*\*:?", text) == ADR_HEADINGS, path.name


def test_no_file_names_a_place_on_somebodys_machine():
    place = re.compile(r"/(work|root|home|Users)/" + r"\w")
    guilty = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in repository_files()
        if (found := place.search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert guilty == []


def test_no_module_is_named_for_nothing():
    nameless = {"utils", "helpers", "common", "manager", "managers", "misc"}
    assert [path for path in repository_files() if path.suffix == ".py" and path.stem in nameless] == []


# --- what is deployed --------------------------------------------------------------------------------------------


def locked() -> dict[str, dict]:
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    return {package["name"]: package for package in lock["package"]}


def deployed_pins() -> dict[str, str]:
    lines = (FUNCTIONS / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split(";")[0].strip() for line in lines if line and not line.startswith("#")]
    return dict(pin.split("==") for pin in pins)


def test_the_deployed_packages_are_the_locked_function_group_and_no_others():
    packages = locked()
    wanted: dict[str, str] = {}
    waiting = list(packages["lowtide"]["dev-dependencies"]["function"])
    while waiting:
        dependency = waiting.pop()
        package = packages[dependency["name"]]
        if wanted.setdefault(package["name"], package["version"]) is not None:
            extras = [package["optional-dependencies"][extra] for extra in dependency.get("extra", [])]
            below = [*package.get("dependencies", []), *(each for extra in extras for each in extra)]
            waiting += [each for each in below if each["name"] not in wanted]
    assert deployed_pins() == wanted


def test_nothing_of_the_command_or_the_tests_is_deployed():
    assert deployed_pins().keys().isdisjoint({"typer", "rich", "starlette", "uvicorn", "moto", "pytest", "hypothesis"})


def imported(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports by absolute name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def strangers(paths: list[Path], known: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in sorted(imported(path))
        if name.split(".")[0] not in sys.stdlib_module_names
        and not any(name == each or name.startswith(f"{each}.") for each in known)
    ]


@pytest.mark.parametrize(
    ("pattern", "known"),
    [
        ("lowtide/core/*.py", ("lowtide.core", "pydantic", "orjson", "re2")),
        ("lowtide/ports.py", ("lowtide.core",)),
        ("lowtide/steps/*.py", ("lowtide.core", "lowtide.ports", "lowtide.steps", "pydantic", "orjson")),
        ("*.py", ("lowtide", "aws_lambda_powertools")),
    ],
    ids=["core", "ports", "steps", "handlers"],
)
def test_a_layer_imports_only_what_it_may_know(pattern, known):
    paths = sorted(FUNCTIONS.glob(pattern))
    assert paths
    assert strangers(paths, known) == []


def test_handlers_leave_the_adapters_to_the_wiring():
    reached = [
        f"{path.name}: {name}" for path in FUNCTIONS.glob("*.py") for name in imported(path) if "adapters" in name
    ]
    assert reached == []


# --- a fresh machine ---------------------------------------------------------------------------------------------


@pytest.fixture
def fetch_uv(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / ".ci")
    return importlib.import_module("fetch_uv")


@pytest.mark.parametrize(
    ("system", "machine", "libc", "tag"),
    [
        ("Linux", "x86_64", "glibc", "manylinux"),
        ("Linux", "aarch64", "glibc", "manylinux"),
        ("Linux", "x86_64", "", "musllinux"),
        ("Linux", "aarch64", "", "musllinux"),
        ("Darwin", "arm64", "", "macosx"),
        ("Darwin", "x86_64", "", "macosx"),
    ],
)
def test_the_lock_pins_a_uv_for_each_platform_that_people_work_on(fetch_uv, monkeypatch, system, machine, libc, tag):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.libc_ver", lambda: (libc, ""))
    _, wheels = fetch_uv.locked()
    fitting = [url for url in wheels if fetch_uv.fits(url)]
    assert fitting
    assert all(tag in url and machine in url for url in fitting)


def test_a_uv_that_is_not_the_pinned_one_is_not_installed(fetch_uv, monkeypatch, tmp_path):
    monkeypatch.setattr(fetch_uv, "TARGET", tmp_path / "uv")
    monkeypatch.setattr(fetch_uv, "fits", lambda _url: True)
    forged = tmp_path / "uv-1-py3-none-any.whl"
    forged.write_bytes(b"not what the lock says")
    with pytest.raises(SystemExit, match=r"is not the file that uv\.lock pins"):
        fetch_uv.with_urllib({forged.as_uri(): "0" * 64})
    assert not (tmp_path / "uv").exists()


def test_a_machine_whose_python_is_too_old_is_told_which_ones_fit(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho\n", encoding="utf-8")
    old.chmod(0o755)
    answer = subprocess.run(
        ["/bin/sh", ROOT / ".ci" / "python"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert "Python 3.11, 3.12 or 3.13" in answer.stderr
    assert answer.stdout == ""


def test_the_python_that_set_up_picks_is_one_that_the_project_allows():
    found = subprocess.run(["/bin/sh", ROOT / ".ci" / "python"], capture_output=True, text=True, check=True)
    version = subprocess.run(
        [found.stdout.strip(), "-c", "import sys; print(*sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert version.stdout.split() in (["3", "11"], ["3", "12"], ["3", "13"])
