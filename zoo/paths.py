"""From the ids that configs hold to what transformers can load; configs never hold absolute paths of our making."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import ZooError, nearest
from zoo.packaged.cache import ASSET, asset_folder

ASSETS = Path(__file__).resolve().parent / "assets"
PACKAGED = "zoo:"
MAPPING_VARIABLE = "ZOO_PATHS"


@functools.cache
def _mapping(file: str) -> dict[str, str]:
    from zoo.config import read_yaml

    return {str(key): str(value) for key, value in read_yaml(Path(file)).items()}


def resolve(id: str) -> str:
    """A folder or a hub id for an id of a config.

    ``zoo:NAME`` is a folder shipped inside the package, ``asset:NAME`` one that ``zoo assets get`` made. The YAML file
    named by the environment variable ZOO_PATHS maps ids to local folders (``lmsys/vicuna-7b-v1.5: /data/vicuna``), so
    that saved configs stay free of local paths.

    Raises:
        ZooError: the packaged asset does not exist or was not fetched, or the mapping names a folder that is none.
    """
    if mapping := os.environ.get(MAPPING_VARIABLE):
        if folder := _mapping(mapping).get(id):
            if not Path(folder).is_dir():
                raise ZooError(f"{mapping} maps {id!r} to {folder}, which is no folder; mend the entry")
            return folder
    if id.startswith(PACKAGED):
        folder_path = ASSETS / id.removeprefix(PACKAGED)
        if not folder_path.is_dir() or ".." in folder_path.parts:
            known = [str(p.parent.relative_to(ASSETS)) for p in ASSETS.rglob("config.json")]
            raise ZooError(f"no packaged asset {id!r}.{nearest(id.removeprefix(PACKAGED), known)}")
        return str(folder_path)
    if id.startswith(ASSET):
        return str(asset_folder(id.removeprefix(ASSET)))
    return id


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers while it loads: its bars, and warnings that list keys left out on purpose line by line."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
