"""Sources of samples: LLaVA JSON, chat messages in JSON lines, interleaved documents, webdataset tar shards."""

import glob
import operator
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from zoo.data.sample import Sample
from zoo.data.sources.convert import to_sample
from zoo.data.sources.documents import DocumentRules, DocumentSource, is_document
from zoo.data.sources.jsonindex import JsonRecords
from zoo.data.sources.records import Origin, RecordError
from zoo.errors import ZooError, nearest

if TYPE_CHECKING:
    from zoo.data.sources.webdataset import TarSource

__all__ = ["DocumentSource", "JsonSource", "RecordError", "open_source"]

FORMS = ("FILE.json", "FILE.jsonl", "FILE.tar", "NAME-{000000..000099}.tar", "GLOB*.tar", "FOLDER")
_JSON_EXTENSIONS = (".json", ".jsonl", ".ndjson")
_DOCUMENTS = "documents:"
_DOCUMENT_OPTIONS = {"max_images": int, "min_similarity": float}


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

    def begins_with_document(self) -> bool:
        """Whether the first record is an interleaved document, which ``DocumentSource`` reads."""
        try:
            return bool(len(self)) and is_document(self._records[0])
        except RecordError:
            return False


def open_source(
    spec: str, *, media_root: str | None = None, rank: int | None = None, num_ranks: int | None = None
) -> "JsonSource | DocumentSource | TarSource":
    """The source behind a path: by index for JSON and JSON lines, iterable for tar shards.

    ``spec`` is a ``.json`` or ``.jsonl`` file, a ``.tar`` shard, a brace pattern or glob of shards, or a folder that
    holds either shards or exactly one JSON file. ``media_root`` is where relative media paths start, by default the
    file's folder. ``rank`` and ``num_ranks`` split shards between processes; by default they are the running job's.
    A JSON file whose first record is an interleaved document is read as documents; ``documents:`` before the path says
    so, and takes the rules: ``documents:mmc4.jsonl?max_images=3&min_similarity=0.3``.

    Raises:
        ZooError: no such file, or a form that is not known.
    """
    name, rules = _document_rules(spec)
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return _open_folder(path, media_root, rank, num_ranks, rules)
    extension = os.path.splitext(path)[1].lower()
    if extension == ".tar":
        from zoo.data.sources.webdataset import TarSource, expand_shards

        return TarSource(expand_shards(path), media_root=media_root, rank=rank, num_ranks=num_ranks, documents=rules)
    if not os.path.exists(path):
        if extension not in _JSON_EXTENSIONS:
            raise ZooError(f"data {spec!r}: no such file, and no known form of data. Known: {', '.join(FORMS)}")
        raise ZooError(f"data {spec!r}: no such file.{_neighbours(path)}")
    if extension not in _JSON_EXTENSIONS:
        hint = nearest(extension, [*_JSON_EXTENSIONS, ".tar"])
        raise ZooError(f"data {spec!r}: unknown extension {extension!r}.{hint}")
    return _open_json(path, media_root, rules)


def _document_rules(spec: str) -> tuple[str, DocumentRules | None]:
    """The path of a spec, and the rules of its documents where it says that it holds some."""
    if not spec.startswith(_DOCUMENTS):
        return spec, None
    path, _, query = spec.removeprefix(_DOCUMENTS).partition("?")
    values = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in _DOCUMENT_OPTIONS:
            raise ZooError(f"data {spec!r}: unknown option {key!r}.{nearest(key, list(_DOCUMENT_OPTIONS))}")
        try:
            values[key] = _DOCUMENT_OPTIONS[key](text)
        except ValueError:
            raise ZooError(f"data {spec!r}: {key} is {text!r}; give a number") from None
    return path, DocumentRules(**values)


def _open_json(path: str, media_root: str | None, rules: DocumentRules | None) -> JsonSource | DocumentSource:
    source = JsonSource(path, media_root=media_root)
    if rules is None and not source.begins_with_document():
        return source
    return DocumentSource(path, media_root=media_root, rules=rules)


def _open_folder(
    path: str, media_root: str | None, rank: int | None, num_ranks: int | None, rules: DocumentRules | None
) -> "JsonSource | DocumentSource | TarSource":
    shards = sorted(glob.glob(os.path.join(glob.escape(path), "*.tar")))
    files = sorted(name for name in os.listdir(path) if name.lower().endswith(_JSON_EXTENSIONS))
    if shards and not files:
        from zoo.data.sources.webdataset import TarSource

        return TarSource(shards, media_root=media_root, rank=rank, num_ranks=num_ranks, documents=rules)
    if len(files) == 1 and not shards:
        return _open_json(os.path.join(path, files[0]), media_root, rules)
    found = f"{len(shards)} .tar and {len(files)} JSON files ({', '.join(files[:5])})"
    raise ZooError(f"folder {path!r} holds {found}; name one file, or keep only shards or one JSON file in it")


def _neighbours(path: str) -> str:
    folder = os.path.dirname(path) or "."
    names = os.listdir(folder) if os.path.isdir(folder) else []
    names = [name for name in names if name.lower().endswith((*_JSON_EXTENSIONS, ".tar"))]
    return nearest(os.path.basename(path), names) if names else f" There is no data file in {folder!r}."
