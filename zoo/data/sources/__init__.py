"""Sources of samples: LLaVA JSON, chat messages in JSON lines, webdataset tar shards."""

import glob
import operator
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo.data.sample import Sample
from zoo.data.sources.convert import to_sample
from zoo.data.sources.jsonindex import JsonRecords
from zoo.data.sources.records import Origin, RecordError
from zoo.errors import ZooError, nearest

if TYPE_CHECKING:
    from zoo.data.sources.webdataset import TarSource

__all__ = ["JsonSource", "RecordError", "open_source"]

FORMS = ("FILE.json", "FILE.jsonl", "FILE.tar", "NAME-{000000..000099}.tar", "GLOB*.tar", "FOLDER")
_JSON_EXTENSIONS = (".json", ".jsonl", ".ndjson")


class JsonSource:
    """Samples of a JSON array or JSON-lines file by index; each is read from disk, converted and validated on demand.

    Records with ``conversations`` are read as LLaVA's, records with ``messages`` as chat. Relative media paths are
    looked up under ``media_root``, by default the file's folder. Safe in forked and spawned workers.

    Raises:
        ZooError: the file cannot be read or is no array of records; RecordError from ``[index]`` for a bad record.
    """

    def __init__(self, path: str, *, media_root: str | None = None) -> None:
        self.path = path
        self.media_root = os.path.dirname(path) if media_root is None else media_root
        self._records = JsonRecords(path)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Sample:
        position = operator.index(index)
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(f"{self.path}: sample {index} of {len(self)}")
        origin = Origin(
            where=f"{self.path}: sample {position}",
            default_id=f"{os.path.basename(self.path)}:{position}",
            media_root=self.media_root,
        )
        return to_sample(self._records[position], origin)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def open_source(
    spec: str, *, media_root: str | None = None, rank: int | None = None, num_ranks: int | None = None
) -> "JsonSource | TarSource":
    """The source behind a path: by index for JSON and JSON lines, iterable for tar shards.

    ``spec`` is a ``.json`` or ``.jsonl`` file, a ``.tar`` shard, a brace pattern or glob of shards, or a folder that
    holds either shards or exactly one JSON file. ``media_root`` is where relative media paths start, by default the
    file's folder. ``rank`` and ``num_ranks`` split shards between processes; by default they are the running job's.

    Raises:
        ZooError: no such file, or a form that is not known.
    """
    path = os.path.expanduser(spec)
    if os.path.isdir(path):
        return _open_folder(path, media_root, rank, num_ranks)
    extension = os.path.splitext(path)[1].lower()
    if extension == ".tar":
        from zoo.data.sources.webdataset import TarSource, expand_shards

        return TarSource(expand_shards(path), media_root=media_root, rank=rank, num_ranks=num_ranks)
    if not os.path.exists(path):
        if extension not in _JSON_EXTENSIONS:
            raise ZooError(f"data {spec!r}: no such file, and no known form of data. Known: {', '.join(FORMS)}")
        raise ZooError(f"data {spec!r}: no such file.{_neighbours(path)}")
    if extension not in _JSON_EXTENSIONS:
        hint = nearest(extension, [*_JSON_EXTENSIONS, ".tar"])
        raise ZooError(f"data {spec!r}: unknown extension {extension!r}.{hint}")
    return JsonSource(path, media_root=media_root)


def _open_folder(
    path: str, media_root: str | None, rank: int | None, num_ranks: int | None
) -> "JsonSource | TarSource":
    shards = sorted(glob.glob(os.path.join(glob.escape(path), "*.tar")))
    files = sorted(name for name in os.listdir(path) if name.lower().endswith(_JSON_EXTENSIONS))
    if shards and not files:
        from zoo.data.sources.webdataset import TarSource

        return TarSource(shards, media_root=media_root, rank=rank, num_ranks=num_ranks)
    if len(files) == 1 and not shards:
        return JsonSource(os.path.join(path, files[0]), media_root=media_root)
    found = f"{len(shards)} .tar and {len(files)} JSON files ({', '.join(files[:5])})"
    raise ZooError(f"folder {path!r} holds {found}; name one file, or keep only shards or one JSON file in it")


def _neighbours(path: str) -> str:
    folder = os.path.dirname(path) or "."
    names = os.listdir(folder) if os.path.isdir(folder) else []
    names = [name for name in names if name.lower().endswith((*_JSON_EXTENSIONS, ".tar"))]
    return nearest(os.path.basename(path), names) if names else f" There is no data file in {folder!r}."
