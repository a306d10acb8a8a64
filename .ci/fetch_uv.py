"""Puts the uv that uv.lock pins into .uv/bin, for a machine that has none. Needs nothing but Python's standard library.

pip goes first, because it knows how this machine reaches a package index (pip.conf, PIP_*, proxies, certificates).
Debian's python3 may have neither pip nor ensurepip: then the wheel is downloaded from where uv.lock says it lies.
Both ways check it against the lock's SHA-256, and touch nothing outside .uv.
"""

from __future__ import annotations

import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / ".uv"
TIMEOUT_S = 120


def locked() -> tuple[str, dict[str, str]]:
    """The version that uv.lock pins, and the SHA-256 of each of its wheels by URL."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    package = next(package for package in lock["package"] if package["name"] == "uv")
    return package["version"], {w["url"]: w["hash"].removeprefix("sha256:") for w in package["wheels"]}


def with_pip(version: str, hashes: list[str]) -> bool:
    """Installs it by pip with --target, which leaves the interpreter's own packages alone."""
    pin = f"uv=={version} " + " ".join(f"--hash=sha256:{digest}" for digest in hashes)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirement:
        requirement.write(pin + "\n")
        requirement.flush()
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--upgrade", f"--target={TARGET}", f"--requirement={requirement.name}"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


def fits(url: str) -> bool:
    """Whether the wheel's platform tags are this machine's: the last part of its name, several joined by dots."""
    match platform.system():
        case "Darwin":
            family = "macosx"
        case "Linux":
            family = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
        case other:
            raise SystemExit(f"uv.lock has no uv for {other}: install uv yourself, then run again")
    tags = url.rsplit("-", 1)[1].removesuffix(".whl").split(".")
    return any(tag.startswith(family) and tag.endswith(f"_{platform.machine()}") for tag in tags)


def with_urllib(wheels: dict[str, str]) -> None:
    url = next(filter(fits, wheels), None)
    if url is None:
        raise SystemExit(f"uv.lock has no uv wheel for {platform.platform()}: install uv yourself, then run again")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:  # noqa: S310 (the URL comes from uv.lock)
            wheel = reply.read()
    except OSError as error:
        raise SystemExit(f"neither pip nor a plain download could fetch uv ({error}): check the network") from error
    if hashlib.sha256(wheel).hexdigest() != wheels[url]:
        raise SystemExit(f"{url} is not the file that uv.lock pins: nothing was installed")
    (TARGET / "bin").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        partial = TARGET / "bin" / "uv.partial"
        with archive.open(member) as source, partial.open("wb") as binary:
            shutil.copyfileobj(source, binary)
    partial.chmod(0o755)
    partial.rename(TARGET / "bin" / "uv")


def main() -> None:
    version, wheels = locked()
    print(f"uv is not installed: fetching uv {version} into {TARGET.name}/ (nothing else is touched)", flush=True)
    if not with_pip(version, list(wheels.values())):
        with_urllib(wheels)


if __name__ == "__main__":
    main()
