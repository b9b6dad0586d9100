"""What there is to ask about: the entries of the converted assets by split, each caption on one side only."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zoo.errors import ZooError, nearest
from zoo.packaged.cache import asset_folder

SPLITS = ("train", "validation", "test")
# Of ten shares of captions, by hash: two are held out for the test and one for choosing what the study runs.
_SHARES, _TEST, _VALIDATION = 10, (0, 1), (2,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A picture or clip. ``file``: the picture, or the folder of the clip's frames; ``kind``: empty where unknown."""

    file: Path
    caption: str
    kind: str
    name: str

    @property
    def words(self) -> str:
        """The caption without the full stop that some have."""
        return self.caption.removesuffix(".")


@lru_cache(maxsize=32)
def entries(asset: str, split: str) -> tuple[Entry, ...]:
    """The entries of an asset in a split, in the order of its index.

    Raises:
        ZooError: an unknown split, or an asset that has not been fetched.
    """
    if split not in SPLITS:
        raise ZooError(f"pictures: unknown split {split!r}.{nearest(split, SPLITS)}")
    folder = asset_folder(asset)
    rows = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    return tuple(
        Entry(file=folder / row["file"], caption=row["caption"], kind=row["kind"], name=f"{asset}/{row['source']}")
        for row in rows
        if split_of(row["caption"]) == split
    )


def split_of(caption: str) -> str:
    """By the caption's words alone, so that the same words never stand in two splits, whatever asset they come from."""
    words = caption.lower().removesuffix(".").strip()
    share = int(hashlib.sha256(words.encode()).hexdigest(), 16) % _SHARES
    return "test" if share in _TEST else "validation" if share in _VALIDATION else "train"
