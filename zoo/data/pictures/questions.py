"""Questions about pictures, answers drawn before words so that the words alone do not betray them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zoo.data.pictures.canvas import draw_canvas, on_white
from zoo.data.pictures.index import Entry, entries
from zoo.data.sample import BOX_PLACEHOLDER, Box, Medium
from zoo.data.scenes.draw import Draw
from zoo.errors import ZooError

STAMPS, CLIP_ART, EMOJI = "stamps", "clip-art", "animated-emoji"
PICTURE_ASSETS = (STAMPS, CLIP_ART)
NUM_OPTIONS = 4
# Of a canvas's four cells.
NUM_OBJECTS = (2, 4)
NUM_FRAMES = 4
SHORT_ANSWER = "Answer with a word."
CAPTION_INSTRUCTIONS = ("Describe the picture in a few words.", "What does the picture show?")
VIDEO_CAPTION_INSTRUCTION = "Describe the video in a few words."


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One question. ``boxes`` stand in the question, ``answer_box`` is the answer where it is one (text ``<box>``)."""

    medium: Medium
    text: str
    answer: str
    candidates: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    answer_box: Box | None = None


Maker = Callable[[Draw, str, str], Asked]


def with_kind(split: str) -> dict[str, tuple[Entry, ...]]:
    """kind -> pictures of it in the split. Raises ZooError where there are too few kinds to ask anything."""
    found: dict[str, list[Entry]] = {}
    for asset in PICTURE_ASSETS:
        for entry in entries(asset, split):
            if entry.kind:
                found.setdefault(entry.kind, []).append(entry)
    if len(found) < NUM_OPTIONS:
        raise ZooError(
            f"pictures: the {split} split has {len(found)} kinds, questions need {NUM_OPTIONS}; run: zoo assets get"
        )
    return {kind: tuple(found[kind]) for kind in sorted(found)}


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def listed(options: Sequence[str]) -> str:
    return f"{', '.join(options[:-1])} or {options[-1]}"


def category(draw: Draw, split: str, name: str) -> Asked:
    """Which of four kinds a picture shows; every kind is equally often right."""
    kinds = with_kind(split)
    options = draw.sample(list(kinds), NUM_OPTIONS)
    answer = draw.choice(options)
    text = f"What is this: {listed([article(option) for option in options])}? {SHORT_ANSWER}"
    medium = picture_medium(draw.choice(kinds[answer]))
    return Asked(medium=medium, text=text, answer=answer, candidates=tuple(options))


def yes_no(draw: Draw, split: str, name: str) -> Asked:
    """Whether a picture shows a kind; half of the answers are yes for every kind that is asked about."""
    kinds = with_kind(split)
    asked, other = draw.sample(list(kinds), 2)
    is_there = draw.coin()
    medium = picture_medium(draw.choice(kinds[asked if is_there else other]))
    return _yes_no(medium, f"Is this {article(asked)}?", is_there)


def canvas_yes_no(draw: Draw, split: str, name: str) -> Asked:
    """Whether one of several things on a canvas is of a kind."""
    kinds = with_kind(split)
    number = draw.between(*NUM_OBJECTS)
    asked, *others = draw.sample(list(kinds), number + 1)
    is_there = draw.coin()
    shown = [asked, *others[:-1]] if is_there else others
    canvas = draw_canvas(draw, [draw.choice(kinds[kind]) for kind in shown])
    return _yes_no(canvas.medium(name), f"Is there {article(asked)} in the picture?", is_there)


def _yes_no(medium: Medium, text: str, is_there: bool) -> Asked:
    answer = "yes" if is_there else "no"
    return Asked(medium=medium, text=f"{text} Answer yes or no.", answer=answer, candidates=("yes", "no"))


def canvas_locate(draw: Draw, split: str, name: str) -> Asked:
    """Where the one thing of a kind is."""
    kinds = with_kind(split)
    shown = draw.sample(list(kinds), draw.between(*NUM_OBJECTS))
    canvas = draw_canvas(draw, [draw.choice(kinds[kind]) for kind in shown])
    text = f"Where is the {shown[0]}? Answer with its box."
    return Asked(medium=canvas.medium(name), text=text, answer=BOX_PLACEHOLDER, answer_box=canvas.box(0))


def canvas_region(draw: Draw, split: str, name: str) -> Asked:
    """What is in a box, of the kinds on the canvas and others: four options whatever the number of things."""
    kinds = with_kind(split)
    options = draw.sample(list(kinds), NUM_OPTIONS)
    shown = options[: draw.between(*NUM_OBJECTS)]
    canvas = draw_canvas(draw, [draw.choice(kinds[kind]) for kind in shown])
    choices = listed([article(option) for option in draw.shuffled(options)])
    text = f"What is at {BOX_PLACEHOLDER}: {choices}? {SHORT_ANSWER}"
    return Asked(
        medium=canvas.medium(name), text=text, answer=shown[0], candidates=tuple(options), boxes=(canvas.box(0),)
    )


def clip_name(draw: Draw, split: str, name: str) -> Asked:
    """Which of four names a clip has."""
    named: dict[str, list[Entry]] = {}
    for entry in entries(EMOJI, split):
        named.setdefault(entry.words, []).append(entry)
    if len(named) < NUM_OPTIONS:
        raise ZooError(f"pictures: the {split} split has {len(named)} names of clips, questions need {NUM_OPTIONS}")
    options = draw.sample(sorted(named), NUM_OPTIONS)
    answer = draw.choice(options)
    text = f"Which name fits the video: {listed(options)}?"
    medium = clip_medium(draw.choice(named[answer]))
    return Asked(medium=medium, text=text, answer=answer, candidates=tuple(options))


def picture_medium(entry: Entry) -> Medium:
    """A cut-out alone, on white."""
    return Medium(kind="image", source=on_white(entry), name=entry.name)


def clip_medium(entry: Entry) -> Medium:
    """A clip as a few frames: methods that take all frames of a video would give each clip a thousand positions."""
    frames = sorted(entry.file.iterdir())
    step = (len(frames) - 1) / (NUM_FRAMES - 1)
    return Medium(kind="video", source=[frames[round(at * step)] for at in range(NUM_FRAMES)], name=entry.name)


# The place of a name is part of every seed: append, never reorder.
MAKERS: Mapping[str, Maker] = {
    "category": category,
    "yes_no": yes_no,
    "canvas_yes_no": canvas_yes_no,
    "canvas_locate": canvas_locate,
    "canvas_region": canvas_region,
    "clip_name": clip_name,
}
