"""Pointing by drawing: a user's box becomes a mark on the image, and words that name it (ViP-LLaVA).

Source: Cai et al., 2024 (ViP-LLaVA), section 3.2; ``llava/visual_prompt_organizer.py``. Published, each sample has a
random mark of one of eight shapes in training, and a rectangle in evaluation; scribbles and masks need outlines of
objects, which boxes do not give.
"""

import random
import re
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from zoo.data.sample import BOX_PLACEHOLDER, Box, Message, Sample

COLOURS = {
    "red": (255, 0, 0),
    "lime": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "fuchsia": (255, 0, 255),
    "aqua": (0, 255, 255),
    "orange": (255, 165, 0),
    "purple": (128, 0, 128),
    "gold": (255, 215, 0),
}
# How the text refers to a mark, and the widths of its lines (a point's radius) at a longer side of 336 pixels.
SHAPES = {
    "rectangle": ("within", (2, 8)),
    "ellipse": ("within", (2, 8)),
    "triangle": ("with", (2, 8)),
    "point": ("at", (5, 20)),
    "arrow": ("pointed to by", (1, 6)),
}
_PLACE = re.compile(rf"(?:\b(?:at|in|inside|within)\s+)?{BOX_PLACEHOLDER}")
_REFERENCE_SIDE = 336
_MAX_ARROW = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualPrompt:
    """A mark for a box in original pixels. ``alpha``: 0 is invisible, 255 opaque. ``width`` at a longer side of 336."""

    box: Box
    shape: str = "rectangle"
    colour: str = "red"
    alpha: int = 128
    width: int = 3

    @property
    def words(self) -> str:
        """How a text refers to it: ``within the red rectangle``."""
        return f"{SHAPES[self.shape][0]} the {self.colour} {self.shape}"


def with_visual_prompts(sample: Sample, *, vary: bool) -> tuple[Sample, list[VisualPrompt]]:
    """The sample with its users' boxes written as words, and the marks to draw for them. Answers keep their boxes.

    The boxes of a sample have different colours, up to nine. ``vary``: shape, colour, width and opacity are drawn from
    the sample's id, as in training; otherwise they are the published evaluation's. A preposition before ``<box>`` gives
    way to the mark's own.
    """
    chance = random.Random(sample.id)
    first = chance.randrange(len(COLOURS)) if vary else 0
    prompts: list[VisualPrompt] = []
    kept: list[Box] = []
    messages: list[Message] = []
    rest = list(sample.boxes)
    for message in sample.messages:
        count = message.content.count(BOX_PLACEHOLDER)
        boxes, rest = rest[:count], rest[count:]
        if message.role == "assistant":
            kept += boxes
            messages.append(message)
            continue
        content = message.content
        for box in boxes:
            colour = list(COLOURS)[(first + len(prompts)) % len(COLOURS)]
            prompt = VisualPrompt(box=box, colour=colour)
            if vary:
                shape = chance.choice(list(SHAPES))
                width, alpha = chance.randint(*SHAPES[shape][1]), chance.randint(96, 255)
                prompt = replace(prompt, shape=shape, width=width, alpha=alpha)
            prompts.append(prompt)
            content = _PLACE.sub(prompt.words, content, count=1)
        messages.append(replace(message, content=content))
    return replace(sample, messages=tuple(messages), boxes=tuple(kept)), prompts


def draw(image: Image.Image, prompts: list[VisualPrompt]) -> Image.Image:
    """An RGB image with the marks blended over it; lines grow with the image."""
    if not prompts:
        return image
    scale = max(image.size) / _REFERENCE_SIDE
    composed = image.convert("RGBA")
    for prompt in prompts:
        overlay = Image.new("RGBA", image.size)
        _draw(ImageDraw.Draw(overlay), prompt, width=max(1, round(prompt.width * scale)), reach=_MAX_ARROW * scale)
        composed = Image.alpha_composite(composed, overlay)
    return composed.convert("RGB")


def _draw(pen: ImageDraw.ImageDraw, prompt: VisualPrompt, *, width: int, reach: float) -> None:
    box, paint = prompt.box, (*COLOURS[prompt.colour], prompt.alpha)
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    corners = (box.x0, box.y0, box.x1, box.y1)
    match prompt.shape:
        case "rectangle":
            pen.rectangle(corners, outline=paint, width=width)
        case "ellipse":
            pen.ellipse(corners, outline=paint, width=width)
        case "triangle":
            pen.polygon(((x, box.y0), (box.x1, box.y1), (box.x0, box.y1)), outline=paint, width=width)
        case "point":
            pen.ellipse((x - width, y - width, x + width, y + width), fill=paint)
        case "arrow":
            tail, head = reach / 2**0.5, max(2, 3 * width)
            pen.line((x - tail, y - tail, x, y), fill=paint, width=width)
            pen.polygon(((x, y), (x - head, y), (x, y - head)), fill=paint)
