"""What readers of several benchmarks share."""

import string
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo.data.sample import Box
from zoo.errors import ZooError
from zoo.evaluation.entries import get_value, iterate_entries
from zoo.evaluation.metrics.inputs import load

Entry = tuple[str, dict[str, Any]]


def joined(first: Path, second: Path, keys: tuple[str | None, str | None], by: str) -> Iterator[tuple[Entry, Entry]]:
    """Entries of two files with the same value of ``by``, in the order of the first.

    ``keys``: where the arrays are in the files (None: the file is one). Raises ZooError for an entry of the first
    without one in the second.
    """
    others = {
        get_value(entry, by, (int, str), where): (where, entry) for where, entry in iterate_entries(second, keys[1])
    }
    for where, entry in iterate_entries(first, keys[0]):
        name = get_value(entry, by, (int, str), where)
        if name not in others:
            raise ZooError(f"{where}: {by} {name!r} is not in {second}; add it there")
        yield (where, entry), others[name]


def dictionary(path: Path) -> dict[str, dict[str, Any]]:
    """A file that holds one object of objects by id, or ZooError."""
    found = load(path)
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise ZooError(f"{path}: expected one JSON object that holds an object for every id")
    return found


def rows(path: Path) -> list[Entry]:
    """The rows of a table (.csv, .tsv) with where they stand (the header is row 1)."""
    return [(f"{path}: row {number}", row) for number, row in enumerate(load(path), start=2)]


def option_fields(options: Sequence[str]) -> dict[str, str]:
    """Options as LLaVA writes them (``lettered_lines``), as LAVIS does (``bracketed``) and as MVBench does."""
    letters = string.ascii_uppercase
    return {
        "lettered_lines": "\n".join(f"{letter}. {text}" for letter, text in zip(letters, options)),
        "bracketed": " ".join(f"({letter}) {text}" for letter, text in zip(letters.lower(), options)),
        "bracketed_lines": "\n".join(f"({letter}) {text}" for letter, text in zip(letters, options)),
    }


def hint_fields(hint: str) -> dict[str, str]:
    """``hint_line`` and ScienceQA's ``context_line``, both empty without a hint."""
    return {"hint_line": f"{hint}\n" if hint else "", "context_line": f"Context: {hint}\n" if hint else ""}


def numbers(values: Any, count: int, where: str) -> list[float]:
    """A list of so many numbers, or ZooError."""
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    ):
        raise ZooError(f"{where}: {values!r:.60} is not a list of {count} numbers")
    return [float(value) for value in values]


def box_of_corners(values: Any, where: str) -> Box:
    """x0, y0, x1, y1 in pixels."""
    x0, y0, x1, y1 = numbers(values, 4, where)
    if x0 > x1 or y0 > y1:
        raise ZooError(f"{where}: box {values} is not x0, y0, x1, y1")
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


def box_of_sizes(values: Any, where: str) -> Box:
    """x, y, width, height in pixels, as COCO writes them."""
    x, y, width, height = numbers(values, 4, where)
    if min(width, height) < 0:
        raise ZooError(f"{where}: bbox {values} is not x, y, width, height in pixels")
    return Box(x0=x, y0=y, x1=x + width, y1=y + height)


def corners(box: Box) -> list[float]:
    """The four numbers that box metrics read."""
    return [box.x0, box.y0, box.x1, box.y1]


def captions_by_image(entries: Iterable[Entry]) -> dict[Any, list[str]]:
    """COCO's annotations gathered by ``image_id``."""
    found: dict[Any, list[str]] = {}
    for where, entry in entries:
        image_id = get_value(entry, "image_id", (int, str), where)
        found.setdefault(image_id, []).append(get_value(entry, "caption", str, where))
    return found
