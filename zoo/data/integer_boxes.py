"""Boxes of whole numbers, alone or behind the phrase that they belong to: Qwen-VL's and MiniGPT-v2's.

Source: Qwen-VL, ``eval_mm/evaluate_grounding.py`` and the model card; MiniGPT-4's repository, ``eval_scripts`` and
``minigpt4/datasets``.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.data.location_tokens import Entity
from zoo.data.sample import Box
from zoo.data.transforms import Geometry

_NUMBER = r"\s*[0-9]{1,3}\s*"


@dataclass(frozen=True, kw_only=True)
class IntegerBoxes:
    """A coordinate is its fraction of the frame times ``num_bins``, rounded down, at most ``largest``.

    Read, it is the number over ``largest``, as both evaluations have it. ``box``: how x0, y0, x1, y1 are written,
    between ``marks``, which a prompt may have opened already and an answer that was cut off lacks. ``phrase``: what
    surrounds the words that boxes belong to. ``tokens``: which marks are tokens of the vocabulary.
    """

    num_bins: int
    largest: int
    box: str
    marks: tuple[str, str] = ("", "")
    phrase: tuple[str, str]
    before_boxes: str = ""
    between_boxes: str = ""
    tokens: tuple[str, ...] = ()

    @property
    def _one_box(self) -> str:
        # Some tokenizers put blanks around added tokens when they decode.
        opening, closing = (re.escape(mark) for mark in self.marks)
        numbers = re.escape(self.box.format(*4 * "#")).replace(re.escape("#"), _NUMBER)
        return rf"(?:{opening}\s*)?{numbers}" + (rf"(?:\s*{closing})?" if closing else "")

    def encode(self, box: Box, geometry: Geometry) -> str:
        bins = (min(math.floor(value * self.num_bins), self.largest) for value in geometry.fractions(box))
        return self.marks[0] + self.box.format(*bins) + self.marks[1]

    def decode(self, text: str, geometry: Geometry) -> Box | None:
        """The first box of an answer in original pixels, None where there is none."""
        return next(iter(self._boxes(text, geometry)), None)

    def _boxes(self, text: str, geometry: Geometry) -> tuple[Box, ...]:
        places = (re.findall("[0-9]+", written) for written in re.findall(self._one_box, text))
        return tuple(geometry.from_fractions([int(bin) / self.largest for bin in bins]) for bins in places)

    def write(self, text: str, entities: Sequence[Entity], geometry: Geometry) -> str:
        """A text whose entities, in its order and apart from one another, are each followed by their boxes."""
        pieces, position = [], 0
        for entity in entities:
            assert position <= entity.start <= entity.end <= len(text), "entities have to be in order and in the text"
            boxes = self.between_boxes.join(self.encode(box, geometry) for box in entity.boxes)
            pieces += [text[position : entity.start], self.phrase[0], text[entity.start : entity.end], self.phrase[1]]
            pieces += [self.before_boxes, boxes]
            position = entity.end
        return "".join([*pieces, text[position:]])

    def read(self, text: str, geometry: Geometry) -> tuple[str, list[Entity]]:
        """The text without markup, and its entities: the inverse of ``write``.

        A phrase without a box stays as text, and so does a box without a phrase; never an exception.
        """
        opening, closing = map(re.escape, self.phrase)
        boxes = rf"{self._one_box}(?:{re.escape(self.between_boxes)}{self._one_box})*"
        entity = re.compile(rf"{opening}(.*?){closing}\s*({boxes})", re.DOTALL)
        clean, entities, position = "", [], 0
        for match in entity.finditer(text):
            clean += text[position : match.start()]
            start = len(clean)
            clean += match[1]
            entities.append(Entity(start=start, end=len(clean), boxes=self._boxes(match[2], geometry)))
            position = match.end()
        return clean + text[position:], entities


QWEN_VL = IntegerBoxes(
    num_bins=1000,
    largest=999,
    box="({},{}),({},{})",
    marks=("<box>", "</box>"),
    phrase=("<ref>", "</ref>"),
    tokens=("<ref>", "</ref>", "<box>", "</box>"),
)
MINIGPT_V2 = IntegerBoxes(
    num_bins=100,
    largest=100,
    box="{{<{}><{}><{}><{}>}}",
    phrase=("<p>", "</p>"),
    before_boxes=" ",
    between_boxes="<delim>",
)
