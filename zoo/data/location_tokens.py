"""Kosmos-2's location tokens: a box is two cells of a 32 x 32 grid, the upper left one and the lower right one.

A cell has the index column + 32 * row and is written ``<patch_index_0000>`` to ``<patch_index_1023>``. Two roundings
are in circulation for the lower right corner: the official training code rounds down, transformers' processor takes the
last cell that the box reaches into. They differ exactly where a corner lies on the edge of a cell.

Source: unilm, kosmos-2 (``demo/decode_string.py`` and the data loader); transformers, ``processing_kosmos2.py``.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zoo.data.sample import Box
from zoo.data.transforms import Geometry

NUM_CELLS = 32

GROUNDING = "<grounding>"
PHRASE = ("<phrase>", "</phrase>")
OBJECT = ("<object>", "</object>")
DELIMITER = "</delimiter_of_multi_objects/>"
PATCH_TOKENS = tuple(f"<patch_index_{index:04d}>" for index in range(NUM_CELLS**2))
LOCATION_TOKENS = (*PHRASE, *OBJECT, DELIMITER, GROUNDING, *PATCH_TOKENS)

Rounding = Literal["official", "hf"]
Cells = tuple[int, int]
Corners = tuple[float, float, float, float]

# Some tokenizers put blanks between added tokens when they decode.
_PAIR = r"\s*<patch_index_[0-9]{4}>\s*<patch_index_[0-9]{4}>\s*"
_OBJECT = re.compile(rf"<object>((?:{_PAIR}{DELIMITER})*{_PAIR})</object>")
_ENTITY = re.compile(rf"(?:<phrase>([^<]*)</phrase>\s*)?{_OBJECT.pattern}")
_MARKUP = re.compile(r"</?phrase>|</?object>|<grounding>|</delimiter_of_multi_objects/>|<patch_index_[0-9]{4}>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entity:
    """A phrase of a text, ``text[start:end]``, and the boxes it names, in original pixels. An object without a phrase
    has ``start == end``, the place where it stood.
    """

    start: int
    end: int
    boxes: tuple[Box, ...]


def to_cells(corners: Corners, *, rounding: Rounding = "official", num_cells: int = NUM_CELLS) -> Cells:
    """Corners x0, y0, x1, y1 as fractions of the frame -> (upper left cell, lower right cell).

    A corner on the far edge of the frame belongs to the last cell.
    """

    def first(value: float) -> int:
        return min(max(math.floor(value * num_cells), 0), num_cells - 1)

    def last(value: float) -> int:
        if rounding == "hf":
            return min(max(math.ceil(value * num_cells - 1), 0), num_cells - 1)
        # 0.99999 is the official code's largest coordinate.
        return max(math.floor(min(value, 0.99999) * num_cells), 0)

    x0, y0, x1, y1 = corners
    return first(x0) + num_cells * first(y0), last(x1) + num_cells * last(y1)


def to_corners(cells: Cells, *, num_cells: int = NUM_CELLS) -> Corners:
    """(upper left cell, lower right cell) -> corners as fractions of the frame.

    Corners are the centres of the two cells, or their outer edges where both lie in one row or one column: between the
    centres would be nothing. Cells in the wrong order give corners in the wrong order, as in the official code.
    """
    (row0, column0), (row1, column1) = (divmod(cell, num_cells) for cell in cells)
    if row0 == row1 or column0 == column1:
        edges = (column0, row0, column1 + 1, row1 + 1)
    else:
        edges = (column0 + 0.5, row0 + 0.5, column1 + 0.5, row1 + 0.5)
    return tuple(edge / num_cells for edge in edges)  # type: ignore[return-value]


def write_objects(boxes: Sequence[Box], geometry: Geometry, *, rounding: Rounding = "official") -> str:
    """``<object>`` with the tokens of one or several boxes."""
    pairs = []
    for box in boxes:
        cells = to_cells(geometry.fractions(box), rounding=rounding)
        pairs.append("".join(PATCH_TOKENS[cell] for cell in cells))
    return OBJECT[0] + DELIMITER.join(pairs) + OBJECT[1]


def read_objects(text: str, geometry: Geometry) -> list[Box]:
    """The boxes of all well-formed objects in a text, in original pixels. Corners in the wrong order are swapped; a
    pair with a cell beyond the grid is left out.
    """
    return [box for match in _OBJECT.finditer(text) for box in _boxes(match[1], geometry)]


def _boxes(pairs: str, geometry: Geometry) -> list[Box]:
    boxes = []
    for pair in pairs.split(DELIMITER):
        upper_left, lower_right = (int(digits) for digits in re.findall(r"[0-9]{4}", pair))
        if max(upper_left, lower_right) < NUM_CELLS**2:
            x0, y0, x1, y1 = (value * geometry.size for value in to_corners((upper_left, lower_right)))
            ordered = Box(x0=min(x0, x1), y0=min(y0, y1), x1=max(x0, x1), y1=max(y0, y1))
            boxes.append(geometry.to_original(ordered))
    return boxes


def write_grounded(
    text: str, entities: Sequence[Entity], geometry: Geometry, *, rounding: Rounding = "official"
) -> str:
    """Grounded text: ``<grounding> An image of<phrase> a dog</phrase><object>...</object>.``

    A blank before a phrase stands inside its tags, as in the training data: with it the phrase's first word is the
    token that it is elsewhere. ``entities`` are in the order of the text and do not overlap.
    """
    padded, pieces, position = " " + text, [GROUNDING], 0
    for entity in entities:
        start, end = entity.start + 1, entity.end + 1
        objects = write_objects(entity.boxes, geometry, rounding=rounding)
        if start == end:
            pieces += [padded[position:start], objects]
        else:
            start -= padded[start - 1] == " "
            assert position <= start < end <= len(padded), "entities have to be in order and inside the text"
            pieces += [padded[position:start], PHRASE[0], padded[start:end], PHRASE[1], objects]
        position = end
    return "".join([*pieces, padded[position:]])


def read_grounded(text: str, geometry: Geometry) -> tuple[str, list[Entity]]:
    """The text without markup and surrounding blanks, and its entities. The inverse of ``write_grounded``.

    Malformed markup (an object without its end, a tag alone) is dropped without an entity; never an exception.
    """
    clean, found, position = "", [], 0
    for match in _ENTITY.finditer(text):
        clean += _MARKUP.sub("", text[position : match.start()])
        phrase = match[1] or ""
        start = len(clean) + len(phrase) - len(phrase.lstrip())
        clean += phrase
        found.append((start, max(start, len(clean.rstrip())), tuple(_boxes(match[2], geometry))))
        position = match.end()
    clean += _MARKUP.sub("", text[position:])
    shift, stripped = len(clean) - len(clean.lstrip()), clean.strip()

    def place(index: int) -> int:
        return min(max(index - shift, 0), len(stripped))

    return stripped, [Entity(start=place(start), end=place(end), boxes=boxes) for start, end, boxes in found if boxes]
