"""Boxes in text. One codec a format; boxes stay in original pixels until the text is written."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from zoo.data.integer_boxes import MINIGPT_V2, QWEN_VL
from zoo.data.location_tokens import LOCATION_TOKENS, Rounding, read_objects, write_objects
from zoo.data.sample import Box
from zoo.data.transforms import Geometry
from zoo.errors import ZooError, nearest


@dataclass(frozen=True, kw_only=True)
class BoxCodec:
    """``encode`` writes a box of an image transformed by ``geometry``; ``decode`` reads the first box of an answer.

    ``decode`` returns None for an answer that holds no well-formed box; corners in the wrong order are swapped.
    ``region_prompt`` is how a user's box is written for a method with region features: ``region{number} {region}``,
    ``{region}`` being the feature's position. Answers are always written by ``encode``. ``tokens`` are tokens of the
    vocabulary that the format is written with. ``draws``: a user's box is a mark on the image and words that name it
    (``zoo.data.visual_prompts``).
    """

    encode: Callable[[Box, Geometry], str]
    decode: Callable[[str, Geometry], Box | None]
    region_prompt: str = ""
    tokens: tuple[str, ...] = ()
    draws: bool = False


_NUMERALS = re.compile(r"\[\s*(\d*\.?\d+)\s*,\s*(\d*\.?\d+)\s*,\s*(\d*\.?\d+)\s*,\s*(\d*\.?\d+)\s*\]")


def _encode_numerals(box: Box, geometry: Geometry) -> str:
    return "[" + ", ".join(f"{value:.2f}" for value in geometry.fractions(box)) + "]"


def _decode_numerals(text: str, geometry: Geometry) -> Box | None:
    match = _NUMERALS.search(text)
    return None if match is None else geometry.from_fractions(match.groups())


# Shikra's own expressions: one digit before the point, no blanks, several boxes or points joined in one bracket.
_SHIKRA_BOX = r"\d(?:\.\d*)?(?:,\d(?:\.\d*)?){3}"
_SHIKRA_BOXES = re.compile(rf"\[{_SHIKRA_BOX}(?:;{_SHIKRA_BOX})*\]")
_SHIKRA_POINT = r"\d(?:\.\d*)?,\d(?:\.\d*)?"
_SHIKRA_POINTS = re.compile(rf"\[{_SHIKRA_POINT}(?:;{_SHIKRA_POINT})*\]")


def write_shikra(places: Sequence[Sequence[float]]) -> str:
    """Boxes (x0, y0, x1, y1) or points (x, y) as fractions, in one bracket: ``[0.100,0.200;0.300,0.400]``."""
    return "[" + ";".join(",".join(f"{value:.3f}" for value in place) for place in places) + "]"


def read_shikra(text: str, *, points: bool = False) -> list[list[tuple[float, ...]]]:
    """Every bracket of an answer with its boxes, or its points, as fractions of the frame.

    Shikra's evaluation counts an expression as found only by an answer of exactly one bracket with exactly one box.
    """
    brackets = (_SHIKRA_POINTS if points else _SHIKRA_BOXES).findall(text)
    return [[tuple(float(value) for value in place.split(",")) for place in b[1:-1].split(";")] for b in brackets]


def _encode_shikra(box: Box, geometry: Geometry) -> str:
    return write_shikra([geometry.fractions(box)])


def _decode_shikra(text: str, geometry: Geometry) -> Box | None:
    brackets = read_shikra(text)
    return geometry.from_fractions(brackets[0][0]) if brackets else None


def _encode_location_tokens(box: Box, geometry: Geometry, rounding: Rounding) -> str:
    return write_objects([box], geometry, rounding=rounding)


def _decode_location_tokens(text: str, geometry: Geometry) -> Box | None:
    return next(iter(read_objects(text, geometry)), None)


def _location_tokens(rounding: Rounding) -> BoxCodec:
    return BoxCodec(
        encode=partial(_encode_location_tokens, rounding=rounding),
        decode=_decode_location_tokens,
        tokens=LOCATION_TOKENS,
    )


# LLaVA-1.5: [x0, y0, x1, y1] as fractions of the square that the encoder sees, two decimals.
_numerals = BoxCodec(encode=_encode_numerals, decode=_decode_numerals)

BOX_CODECS: dict[str, BoxCodec] = {
    "numerals": _numerals,
    # The same with three decimals and without blanks.
    "shikra": BoxCodec(encode=_encode_shikra, decode=_decode_shikra),
    # Two location tokens a box, rounded as the official training code does, or as transformers' processor.
    "kosmos-2": _location_tokens("official"),
    "kosmos-2-hf": _location_tokens("hf"),
    # Whole numbers below 1000 between tokens of their own; whole percents between signs that the vocabulary has.
    "qwen-vl": BoxCodec(encode=QWEN_VL.encode, decode=QWEN_VL.decode, tokens=QWEN_VL.tokens),
    "minigpt-v2": BoxCodec(encode=MINIGPT_V2.encode, decode=MINIGPT_V2.decode),
    # A feature of the region where the user points at one. The published model writes no boxes; answers have numerals.
    "gpt4roi": replace(_numerals, region_prompt="region{number} {region}"),
    # A mark drawn on the image where the user points at a region; answers have numerals.
    "vip-llava": replace(_numerals, draws=True),
}


def get_box_codec(name: str) -> BoxCodec:
    if name not in BOX_CODECS:
        raise ZooError(f"unknown box codec {name!r}.{nearest(name, list(BOX_CODECS))}")
    return BOX_CODECS[name]
