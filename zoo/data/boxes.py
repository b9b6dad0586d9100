"""Boxes in text. One codec a format; boxes stay in original pixels until the text is written."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from zoo.data.sample import Box
from zoo.data.transforms import Geometry
from zoo.errors import ZooError, nearest


@dataclass(frozen=True, kw_only=True)
class BoxCodec:
    """``encode`` writes a box of an image transformed by ``geometry``; ``decode`` reads the first box of an answer.

    ``decode`` returns None for an answer that holds no well-formed box; corners in the wrong order are swapped.
    """

    encode: Callable[[Box, Geometry], str]
    decode: Callable[[str, Geometry], Box | None]


_NUMERALS = re.compile(r"\[\s*(\d*\.?\d+)\s*,\s*(\d*\.?\d+)\s*,\s*(\d*\.?\d+)\s*,\s*(\d*\.?\d+)\s*\]")


def _encode_numerals(box: Box, geometry: Geometry) -> str:
    frame = geometry.to_frame(box)
    values = (frame.x0, frame.y0, frame.x1, frame.y1)
    return "[" + ", ".join(f"{value / geometry.size:.2f}" for value in values) + "]"


def _decode_numerals(text: str, geometry: Geometry) -> Box | None:
    match = _NUMERALS.search(text)
    if match is None:
        return None
    x0, y0, x1, y1 = (min(float(value), 1.0) * geometry.size for value in match.groups())
    return geometry.to_original(Box(x0=min(x0, x1), y0=min(y0, y1), x1=max(x0, x1), y1=max(y0, y1)))


BOX_CODECS: dict[str, BoxCodec] = {
    # LLaVA-1.5: [x0, y0, x1, y1] as fractions of the square that the encoder sees, two decimals.
    "numerals": BoxCodec(encode=_encode_numerals, decode=_decode_numerals),
}


def get_box_codec(name: str) -> BoxCodec:
    if name not in BOX_CODECS:
        raise ZooError(f"unknown box codec {name!r}.{nearest(name, list(BOX_CODECS))}")
    return BOX_CODECS[name]
