"""How region methods write boxes: Shikra's numerals, Kosmos-2's location tokens, on a table of arguments and results.

``table.json``: function of the reference -> list of [arguments, result].
"""

import json
from collections.abc import Callable
from typing import Any

from zoo.data.boxes import read_shikra, write_shikra
from zoo.data.location_tokens import read_grounded, to_cells, to_corners
from zoo.data.sample import Box
from zoo.data.transforms import Geometry, ImageTransform
from zoo.errors import ZooError
from zoo.verification.case import Case
from zoo.verification.registry import part
from zoo.verification.report import Report

_UNIT = Geometry(width=1, height=1, size=1, scale_x=1.0, scale_y=1.0, offset_x=0.0, offset_y=0.0)
# Square brackets and three decimals: the only form that Shikra's weights were trained with.
_PUBLISHED_FORM = "[] 3"


def _box(corners: list[float]) -> Box:
    x0, y0, x1, y1 = corners
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


def _corners(box: Box) -> list[float]:
    return [box.x0, box.y0, box.x1, box.y1]


def _fractions(corners: list[float], width: int, height: int) -> list[float]:
    # What a model reads: the fractions as they are written.
    geometry = ImageTransform(size=max(width, height), resize="squash").geometry((width, height))
    return list(read_shikra(write_shikra([geometry.fractions(_box(corners))]))[0][0])


def _on_square(corners: list[float], width: int, height: int) -> list[float]:
    geometry = ImageTransform(size=max(width, height), resize="pad").geometry((width, height))
    return _corners(geometry.to_frame(_box(corners)))


def _extracted(text: str, form: str) -> Any:
    return [[list(place) for place in bracket] for bracket in read_shikra(text)]


def _entities(text: str) -> tuple[str, list[tuple[str, list[int], list[list[float]]]]]:
    clean, found = read_grounded(text, _UNIT)
    return clean, [(clean[e.start : e.end], [e.start, e.end], [_corners(box) for box in e.boxes]) for e in found]


def _named_boxes(text: str) -> Any:
    return [[phrase, *box] for phrase, _, boxes in _entities(text)[1] for box in boxes]


def _ordered(corners: list[float]) -> list[float]:
    """The reference keeps corners in the wrong order; ours swaps them."""
    x0, y0, x1, y1 = corners
    return [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]


def _as_ours(name: str, arguments: Any, result: Any) -> Any:
    """A stored result in our conventions: boxes end where the frame does, corners are in order, phrases have no blank
    before them, objects without a phrase no made-up one.
    """
    if name == "shikra.box_xyxy_expand2square":
        return [min(max(value, 0.0), float(max(arguments[1:]))) for value in result]
    if name == "kosmos2.clean_text_and_extract_entities":
        clean, entities = result
        return [clean, [[phrase, span, [_ordered(box) for box in boxes]] for phrase, span, boxes in entities]]
    if name == "kosmos2.decode_bbox_from_caption":
        # An object without a phrase is named after its tokens there.
        return [["" if phrase.startswith("<") else phrase.strip(), *_ordered(box)] for phrase, *box in result]
    return result


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "shikra.norm_box_xyxy": _fractions,
    "shikra.box_xyxy_expand2square": _on_square,
    "shikra.plain.format": lambda boxes, form: write_shikra(boxes),
    "shikra.plain.extract": _extracted,
    # transformers' processor, and with it the official demo; training rounded otherwise.
    "kosmos2.coordinate_to_patch_index": lambda corners, cells: list(
        to_cells(tuple(corners), rounding="hf", num_cells=cells)
    ),
    "kosmos2.patch_index_to_coordinate": lambda pair, cells: list(to_corners(tuple(pair), num_cells=cells)),
    "kosmos2.decode_bbox_from_caption": _named_boxes,
    "kosmos2.clean_text_and_extract_entities": _entities,
}


def _is_ours(name: str, arguments: Any) -> bool:
    return name in _FUNCTIONS and (not name.startswith("shikra.plain.") or arguments[1] == _PUBLISHED_FORM)


@part("shikra box_process_function")
def box_texts(case: Case, report: Report) -> None:
    file = case.folder / "table.json"
    if not file.is_file():
        raise ZooError(f"{file} is missing; store function -> list of [arguments, result] there")
    table = json.loads(file.read_text(encoding="utf-8"))
    for name, rows in table.items():
        chosen = [(arguments, result) for arguments, result in rows if _is_ours(name, arguments)]
        if len(chosen) < len(rows):
            report.left_out.append(f"table/{name}: {len(rows) - len(chosen)} rows in a form that no method here has")
        if chosen:
            ours = [_call(name, arguments) for arguments, _ in chosen]
            report.compare_values("table", name, ours, [_as_ours(name, *row) for row in chosen])


def _call(name: str, arguments: Any) -> Any:
    # Functions of one text have it as their only argument, not in a list.
    return _FUNCTIONS[name](*(arguments if isinstance(arguments, list) else [arguments]))
