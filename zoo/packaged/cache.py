"""Where converted assets lie: ``$ZOO_ASSETS``, by default ``zoo/assets`` in the user's cache folder."""

import json
import os
from pathlib import Path

from zoo.errors import ZooError, nearest
from zoo.packaged.catalogue import CATALOGUE, Asset

ASSET = "asset:"
VARIABLE = "ZOO_ASSETS"
MARK_FILE = "asset.json"
DOWNLOADS = "downloads"


def cache_folder() -> Path:
    """Read at every call, as HF_HOME's users expect of a variable set late."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "zoo" / "assets"


def get_asset(name: str) -> Asset:
    """Raises ZooError with the nearest name."""
    if name not in CATALOGUE:
        raise ZooError(f"unknown asset {name!r}.{nearest(name, list(CATALOGUE))}")
    return CATALOGUE[name]


def mark(name: str) -> dict[str, object]:
    """What the folder of an asset was made of and by."""
    asset = get_asset(name)
    packages = {f"{package.name} {package.version}": package.sha256 for package in asset.packages}
    return {"asset": name, "revision": asset.revision, "licence": asset.licence, "packages": packages}


def is_there(name: str) -> bool:
    """Whether the asset was converted by this version's converter from the packages that it names now."""
    file = cache_folder() / name / MARK_FILE
    return file.is_file() and json.loads(file.read_text()) == mark(name)


def asset_folder(name: str) -> Path:
    """The folder of a converted asset.

    Raises:
        ZooError: an unknown name, or one that has not been fetched yet.
    """
    get_asset(name)
    if not is_there(name):
        raise ZooError(f"asset {name!r} is not in {cache_folder()}; run: zoo assets get {name}")
    return cache_folder() / name
