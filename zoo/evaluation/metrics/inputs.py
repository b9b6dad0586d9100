"""Read predictions and references in the shapes that official result and annotation files have, and join them by id."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import ZooError
from zoo.evaluation.entries import iterate_entries, read_text

Prediction = TypeVar("Prediction")
Reference = TypeVar("Reference")

NUM_NAMED = 10
# Published answer files name the same two things differently: VQA, LLaVA, GQA, VizWiz, VLMEvalKit, MMVP.
ID_KEYS = ("question_id", "questionId", "index", "image_id", "q_id", "id", "image")
ANSWER_KEYS = ("answer", "prediction", "text", "response", "pred")
TABLES = {".csv": ",", ".tsv": "\t"}


def load(source: Any) -> Any:
    """What a file holds; anything that is not a path is returned as it is.

    JSON, JSON lines, a table with a header (.csv, .tsv: one dictionary a row) or a text file (its text). A folder is a
    dictionary: the stem of each .txt or .json file to what it holds.
    """
    if not isinstance(source, str | Path):
        return source
    path = Path(source)
    if path.is_dir():
        inside = sorted(file for file in path.iterdir() if file.suffix in (".txt", ".json"))
        if not inside:
            raise ZooError(f"{path}: holds no .txt or .json file; give the folder of the result files")
        return {file.stem: load(file) for file in inside}
    if path.suffix == ".txt":
        return read_text(path)
    if path.suffix in TABLES:
        csv.field_size_limit(2**31 - 1)  # MMBench keeps images in its tables
        return list(csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=TABLES[path.suffix]))
    text = read_text(path)
    if path.suffix != ".jsonl" and text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            # POPE's .json files are JSON lines: the first line is a whole document by itself.
            if "Extra data" not in error.msg:
                raise ZooError(
                    f"{path}: malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}"
                ) from error
    return [entry for _, entry in iterate_entries(path, None)]


def records(source: Any, what: str, *, under: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A list of objects: ``source`` itself, what it holds under the first key of ``under`` that it has, or one object.

    Raises ZooError naming ``what`` (predictions, references) where it is something else or empty.
    """
    if isinstance(source, Mapping):
        found = next((source[key] for key in under if key in source), None)
        source = [source] if found is None else found
    if isinstance(source, str | bytes) or not isinstance(source, Sequence):
        raise ZooError(f"{what}: a {type(source).__name__} where a list of objects is expected")
    if not source:
        raise ZooError(f"{what}: empty; there is nothing to score")
    for number, entry in enumerate(source):
        if not isinstance(entry, Mapping):
            raise ZooError(f"{what}: entry {number} is a {type(entry).__name__}; it must be an object")
    return list(source)


def get(entry: Mapping[str, Any], keys: str | Sequence[str], where: str) -> Any:
    """The value of the first of ``keys`` that the entry has. Raises ZooError naming ``where`` and the keys it has."""
    wanted = (keys,) if isinstance(keys, str) else keys
    for key in wanted:
        if key in entry:
            return entry[key]
    raise ZooError(f"{where} lacks {' or '.join(map(repr, wanted))}; it has {', '.join(map(repr, entry)) or 'no keys'}")


def keyed(
    source: Any,
    what: str,
    *,
    id_keys: Sequence[str] = ID_KEYS,
    value_keys: Sequence[str] | None = ANSWER_KEYS,
    under: Sequence[str] = (),
) -> dict[str, Any]:
    """Values by id, the id as text.

    ``source`` is a list of objects with one of ``id_keys`` and one of ``value_keys`` (None: the value is the object), a
    dictionary that holds such a list ``under`` a key, or a dictionary from id to value.

    Raises:
        ZooError: an entry without id or value, an id twice.
    """
    if isinstance(source, Mapping) and not any(key in source for key in (*id_keys, *under)):
        if not source:
            raise ZooError(f"{what}: empty; there is nothing to score")
        return {str(name): value for name, value in source.items()}
    found: dict[str, Any] = {}
    doubled = []
    for number, entry in enumerate(records(source, what, under=under)):
        where = f"{what}: entry {number}"
        name = str(get(entry, id_keys, where))
        if name in found:
            doubled.append(name)
        found[name] = entry if value_keys is None else get(entry, value_keys, where)
    if doubled:
        raise ZooError(f"{what}: {named(doubled)} more than once; keep one entry an id")
    return found


def texts(source: Any, what: str, **options: Any) -> dict[str, str]:
    """``keyed``, where every value must be text (a number is taken as its text)."""
    found = keyed(source, what, **options)
    for name, value in found.items():
        if isinstance(value, Mapping):
            value = found[name] = get(value, ANSWER_KEYS, f"{what}: {name!r}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = str(value)
        elif not isinstance(value, str):
            raise ZooError(f"{what}: the answer of {name!r} is {value!r:.40}; it must be text")
    return found


def join(
    predictions: Mapping[str, Prediction], references: Mapping[str, Reference]
) -> list[tuple[str, Prediction, Reference]]:
    """(id, prediction, reference) in the order of the references; both sides must have the same ids."""
    missing = [name for name in references if name not in predictions]
    if missing:
        raise ZooError(f"predictions: {len(missing)} of {len(references)} are missing: {named(missing)}; add them")
    unknown = [name for name in predictions if name not in references]
    if unknown:
        raise ZooError(f"predictions: {named(unknown)} have no reference; drop them or add their references")
    return [(name, predictions[name], reference) for name, reference in references.items()]


def named(names: Sequence[str]) -> str:
    """Ids for a message: the first ten, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:NUM_NAMED])
    return shown + (f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else "")


def mean(values: Sequence[float]) -> float:
    """Sum over number."""
    return sum(values) / len(values)


def grouped_mean(items: Mapping[str, float], groups: Mapping[str, str], scale: float = 1.0) -> dict[str, float]:
    """``scale`` times the mean of the items of every group, groups in the order in which they first occur."""
    found: dict[str, list[float]] = {}
    for name, value in items.items():
        if name in groups:
            found.setdefault(groups[name], []).append(value)
    return {group: scale * sum(values) / len(values) for group, values in found.items()}
