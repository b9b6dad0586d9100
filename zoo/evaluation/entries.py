"""Checked reading of annotation files: every value asked for is there and of its type, or one line says where not."""

import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.errors import ZooError


def read_text(path: str | Path) -> str:
    """The file as UTF-8 text, or ZooError."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ZooError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise ZooError(f"{path}: is not UTF-8 text (byte {error.start}); give the annotation file itself") from error


def iterate_entries(path: str | Path, key: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of the array under ``key``, or (None) of a bare array or JSON lines, each with where it stands."""
    text = read_text(path)
    bare_lines = key is None and not text.lstrip().startswith("[")
    if bare_lines:
        numbered = [
            (f"{path}: line {number}", line) for number, line in enumerate(text.splitlines(), 1) if line.strip()
        ]
        found = [(where, _json(line, where)) for where, line in numbered]
    else:
        whole = _json(text, str(path))
        entries = whole if key is None else get_value(whole, key, list, str(path))
        found = [(f"{path}: {key or 'entry'}[{number}]", entry) for number, entry in enumerate(entries)]
    for where, entry in found:
        if not isinstance(entry, dict):
            raise ZooError(f"{where} is a {type(entry).__name__}; it must be a JSON object")
        yield where, entry


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ZooError(f"{where}: malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error


def get_value(entry: Any, key: str, kinds: type | tuple[type, ...], where: str) -> Any:
    """``entry[key]``, which must be there and of one of ``kinds`` (True and False are no numbers here)."""
    if not isinstance(entry, dict):
        raise ZooError(f"{where}: expected a JSON object with {key!r}, found a {type(entry).__name__}")
    if key not in entry:
        raise ZooError(f"{where} lacks {key!r}; it has {', '.join(map(repr, entry)) or 'no keys'}")
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ZooError(f"{where}: {key!r} is {value!r:.60}, a {type(value).__name__}, which this format does not have")
    return value


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it refers to {module_name}.{global_name}, and only plain data is accepted")


def load_plain_pickle(path: str | Path) -> list[Any]:
    """A pickled list of plain containers, text and numbers; a pickle that names any class or function is refused."""
    try:
        # The published files were written by Python 2, whose byte strings need an encoding.
        refs = _PlainUnpickler(io.BytesIO(Path(path).read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise ZooError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except Exception as error:
        # A damaged pickle can raise nearly anything; whatever it is, the file is at fault.
        raise ZooError(f"{path}: not a pickle of plain data: {error}; give the refs file as published") from error
    if not isinstance(refs, list):
        raise ZooError(f"{path}: holds a {type(refs).__name__}; a refs file holds a list")
    return refs
