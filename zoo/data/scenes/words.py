"""Every word of the world: templates of questions, captions and fact lists, and the phrases that name objects.

All text is lower-case ASCII with ordinary punctuation; the vocabulary is small enough for a language model trained in
a minute.
"""

import re
from operator import attrgetter

from zoo.data.scenes.draw import Draw
from zoo.data.scenes.world import CHANNELS, COLOURS, PLACES, SHAPES, Motion, Scene, Thing

QUESTIONS = {
    "existence": (
        "is there {a}?",
        "is there {a} in the image?",
        "does the image show {a}?",
        "can you see {a}?",
    ),
    "probe": ("is there {a} in the image?",),
    "colour": ("what colour is {a}?", "what is the colour of {a}?"),
    "shape": ("what shape is {a}?", "what is the shape of {a}?"),
    "count": ("how many {a} are there?", "how many {a} are in the image?", "how many {a} can you see?"),
    "more": ("are there more {a} than {b}?", "does the image show more {a} than {b}?"),
    "fewer": ("are there fewer {a} than {b}?", "does the image show fewer {a} than {b}?"),
    "same_size": ("are {a} and {b} the same size?", "do {a} and {b} have the same size?"),
    "spatial": ("where is {a} relative to {b}?", "on which side of {b} is {a}?"),
    "region_describe": ("what is in the region <box>?", "describe the object in <box>."),
    "region_colour": ("what colour is the object in <box>?",),
    "region_shape": ("what shape is the object in <box>?",),
    "region_locate": ("give the box of {a}.", "locate {a}.", "which region shows {a}?"),
    "motion_direction": ("which way does {a} move?", "in which direction does {a} move?"),
    "moves_first": ("which moves first, {a} or {b}?",),
    "appears_first": ("which appears first, {a} or {b}?",),
    "statement_count": ("is the number of {a} in the image {n}?",),
    "statement_position": ("is {a} {side} {b}?",),
    "event_count": ("how many objects move?", "how many objects move in the video?"),
}
# MME ends each of its questions so.
YES_OR_NO_SUFFIX = " Please answer yes or no."
INSTRUCTIONS = {
    "full": (
        "describe the image in detail.",
        "describe all objects in the image.",
        "what is in the image in detail?",
    ),
    "short": ("describe the image briefly.", "give a short caption.", "what does the image show?"),
    "video": ("describe the video.", "what happens in the video?"),
}
CAPTIONS = (
    "{list}.",
    "there is {list}.",
    "the image shows {list}.",
    "in the image there is {list}.",
    "you can see {list}.",
)
FACTS = (
    "{size} {colour} {texture} {shape} {at}",
    "there is a {size} {colour} {texture} {shape} {at}",
    "{at}: {shape}, {colour}, {texture}, {size}",
    "the {shape} {at} is {colour}, {size} and {texture}",
    "the object {at} is {article} {colour} {shape}, {texture} and {size}",
)
NUMBERS = tuple(str(number) for number in range(5))
YES_NO = ("yes", "no")
SIDES = ("left", "right", "above", "below")
DIRECTIONS = ("left", "right", "up", "down")
ORDINARY = tuple("object objects it a an the and at in stays moves appears later first then".split())
WORD = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")
PLACEHOLDER = re.compile(r"<\w+>|\{\w+\}")


def words(text: str) -> list[str]:
    """The words and punctuation marks of a text, placeholders of media and boxes left out."""
    return WORD.findall(PLACEHOLDER.sub(" ", text))


def vocabulary() -> list[str]:
    """All lower-case words and punctuation marks that any text of the world uses, sorted."""
    texts = [template for templates in (*QUESTIONS.values(), *INSTRUCTIONS.values()) for template in templates]
    texts += [
        YES_OR_NO_SUFFIX.lower(),
        *CAPTIONS,
        *FACTS,
        *PLACES,
        *NUMBERS,
        *YES_NO,
        *SIDES,
        *DIRECTIONS,
        *ORDINARY,
        ";",
    ]
    texts += [word for channel in CHANNELS.values() for word in channel]
    texts += [f"{shape}s" for shape in SHAPES]
    return sorted({word for text in texts for word in words(text)})


def article(phrase: str) -> str:
    """The phrase behind its indefinite article."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def at(place: str) -> str:
    """The place as an adverbial: ``at the top left``, ``in the centre``."""
    return f"{'in' if place == 'centre' else 'at'} the {place}"


def noun_phrase(size: str = "", colour: str = "", texture: str = "", shape: str = "") -> str:
    """The attributes in their usual order; ``object`` stands in for a shape that is not given."""
    return " ".join(part for part in (size, colour, texture, shape or "object") if part)


def plural(word: str) -> str:
    """A shape's plural, or ``red objects`` for another attribute; ``objects`` for the empty word."""
    if not word:
        return "objects"
    return f"{word}s" if word in SHAPES else f"{word} objects"


def full_phrase(thing: Thing) -> str:
    """All four attributes: ``large red striped circle``."""
    return noun_phrase(thing.size, thing.colour, thing.texture, thing.shape)


def short_phrase(thing: Thing) -> str:
    """Colour and shape: ``red circle``."""
    return noun_phrase(colour=thing.colour, shape=thing.shape)


def join(parts: list[str]) -> str:
    """A list in prose: commas, and ``and`` before the last."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


# Sets of attributes that may single out an object, with the getter of their values.
REFERENCES = {channels: attrgetter(*channels) for channels in (("shape",), ("colour",), ("colour", "shape"))}


def references(scene: Scene, index: int, without: str = "", places: bool = True) -> list[tuple[str, frozenset[str]]]:
    """Phrases that fit exactly this object, each with the attribute words that it gives away.

    ``without`` names a channel that no phrase may use (the one asked for).
    """
    thing = scene.things[index]
    found = []
    for channels, values_of in REFERENCES.items():
        if without in channels:
            continue
        values = values_of(thing)
        if sum(1 for other in scene.things if values_of(other) == values) == 1:
            attributes = (values,) if len(channels) == 1 else values
            found.append((f"the {noun_phrase(**dict(zip(channels, attributes)))}", frozenset(attributes)))
    # Few forms: a tiny model has to meet each often enough to learn it. The place stands in where nothing else fits.
    if places and not found:
        found.append((f"the object {at(thing.place)}", frozenset()))
    return found


def description(scene: Scene) -> str:
    """All facts of an image in reading order: ``large red striped circle at the top left; ...``."""
    return "; ".join(f"{full_phrase(thing)} {at(thing.place)}" for thing in scene.things) + "."


def facts(scene: Scene, draw: Draw) -> str:
    """The same facts with objects in random order and each in one of several wordings."""
    told = []
    for thing in draw.shuffled(scene.things):
        told.append(
            draw.choice(FACTS).format(
                size=thing.size,
                colour=thing.colour,
                texture=thing.texture,
                shape=thing.shape,
                at=at(thing.place),
                article=article(thing.colour).split()[0],
            )
        )
        if scene.motions:
            told[-1] += f", it {event_phrase(scene, scene.things.index(thing))}"
    return "; ".join(told) + "."


def captions(scene: Scene, detail: str) -> list[str]:
    """Every paraphrase of the caption, objects in reading order; ``detail`` is full or short."""
    if detail == "full":
        told = [f"{article(full_phrase(thing))} {at(thing.place)}" for thing in scene.things]
    else:
        told = [article(short_phrase(thing)) for thing in scene.things]
    return [template.format(list=join(told)) for template in CAPTIONS]


def event_phrase(scene: Scene, index: int) -> str:
    """What an object of a video does: ``moves left first``, ``moves up later``, ``appears later`` or ``stays``."""
    motion: Motion = scene.motions[index]
    if motion.direction:
        earlier = sum(1 for other in scene.motions if other.direction and other.begin < motion.begin)
        total = sum(1 for other in scene.motions if other.direction)
        order = "" if total == 1 else " first" if earlier == 0 else " then" if earlier == 1 else " later"
        return f"moves {motion.direction}{order}"
    if motion.appears > 0:
        earlier = sum(1 for other in scene.motions if 0 < other.appears < motion.appears)
        return "appears later" if earlier else "appears first"
    return "stays"


def video_caption(scene: Scene) -> str:
    """One sentence on all objects of a video, in the order in which they act."""
    order = sorted(range(len(scene.things)), key=lambda i: (scene.motions[i].appears, scene.motions[i].begin, i))
    return join([f"the {short_phrase(scene.things[i])} {event_phrase(scene, i)}" for i in order]) + "."


DESCRIPTIONS = tuple(
    noun_phrase(size, colour, texture, shape)
    for size in CHANNELS["size"]
    for colour in COLOURS
    for texture in CHANNELS["texture"]
    for shape in SHAPES
)
