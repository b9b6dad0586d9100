"""Questions about one image, each with a short answer that the question's words alone do not betray.

Balance comes from the order of the draws: the answer first (a coin, or a plan that the scene is then built to fulfil),
the words second. Several questions may share a scene; ``Told`` keeps one from giving away the answer of another.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from zoo.data.scenes import words as language
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.world import (
    CHANNEL_OF,
    CHANNELS,
    COLOURS,
    SHAPES,
    UNSEEN_PAIRS,
    Plan,
    Scene,
    draw_pair,
)

Maker = Callable[[Scene, Draw, "Told"], "Question | None"]
# The part of the negative questions of the existence task that borrow an attribute from an object in the picture.
NEAR_MISSES = 1 / 3
COUNT_CHANNELS = ("shape", "shape", "colour", "colour", "size", "texture")
COUNT_LIMIT = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """``asked`` and ``told`` are the attribute words of the question and of its answer.

    ``whole`` names the channels that are counted over the whole scene; ``things`` the objects asked about;
    ``boxes`` and ``answer_box`` index the objects whose boxes stand in the question and in the answer.
    """

    task: str
    text: str
    answer: str
    candidates: tuple[str, ...] = ()
    asked: frozenset[str] = frozenset()
    told: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    things: frozenset[int] = frozenset()
    boxes: tuple[int, ...] = ()
    answer_box: int | None = None


@dataclass(slots=True)
class Told:
    """What the earlier turns of a conversation gave away."""

    words: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    things: set[int] = field(default_factory=set)
    num_questions: int = 0

    def allows(self, question: Question) -> bool:
        """Whether the question's answer is still open.

        An attribute word is used up once a turn has named it, an object once a turn has asked about it, and a whole
        channel once its words have been counted. The rule looks at the question, never at its answer: a rule that
        did would betray the answer by what is left to ask.
        """
        channels = {CHANNEL_OF[word] for word in question.asked | question.told}
        return not (
            question.asked & self.words
            or question.things & self.things
            or channels & self.whole
            or question.whole & {CHANNEL_OF[word] for word in self.words}
            or (question.whole & {"number"} and self.num_questions)
        )

    def add(self, question: Question) -> None:
        """Remember a turn."""
        self.words |= question.asked | question.told
        self.whole |= question.whole
        self.things |= question.things
        self.num_questions += 1


def existence(scene: Scene, draw: Draw, told: Told) -> Question | None:
    """Yes or no by a coin, then a shape, a colour, or both."""
    kind = "pair" if scene.unseen else draw.choice(("shape", "colour", "pair"))
    if kind == "pair":
        return _existence_of_pair(scene, draw, told)
    present = {getattr(thing, kind) for thing in scene.things} - told.words
    absent = set(CHANNELS[kind]) - {getattr(thing, kind) for thing in scene.things} - told.words
    if not present or not absent:
        return None
    yes = draw.coin()
    word = draw.choice(sorted(present if yes else absent))
    return yes_no(
        "existence", draw, "existence", yes, {word}, a=language.article(word if kind == "shape" else f"{word} object")
    )


def _existence_of_pair(scene: Scene, draw: Draw, told: Told) -> Question | None:
    things = (scene.things[scene.focus],) if scene.unseen else scene.things
    present = [(thing.colour, thing.shape) for thing in things if not {thing.colour, thing.shape} & told.words]
    absent = (near_miss if draw.coin(NEAR_MISSES) else absent_pair)(scene, draw)
    if not present or absent is None or set(absent) & told.words:
        return None
    yes = draw.coin()
    return pair_question("existence", "existence", draw, yes, draw.choice(present) if yes else absent)


def pair_question(task: str, template: str, draw: Draw, yes: bool, pair: tuple[str, str]) -> Question:
    """Whether there is an object of this colour and shape."""
    phrase = language.noun_phrase(colour=pair[0], shape=pair[1])
    return yes_no(task, draw, template, yes, set(pair), a=language.article(phrase))


def absent_pair(scene: Scene, draw: Draw) -> tuple[str, str] | None:
    """A pair that the scene lacks, distributed as the pairs of scenes are (unseen ones for unseen scenes)."""
    present = {(thing.colour, thing.shape) for thing in scene.things}
    for _ in range(20):
        pair = draw_pair(draw, unseen=scene.unseen)
        if pair not in present:
            return pair
    return None


def near_miss(scene: Scene, draw: Draw) -> tuple[str, str] | None:
    """One of ``near_misses``, the colour first as in draw_pair: no pair is the lure more often than it is the truth."""
    near = near_misses(scene)
    if not near:
        return None
    colour = draw.choice(sorted({colour for colour, _ in near}))
    return colour, draw.choice([shape for other, shape in near if other == colour])


def near_misses(scene: Scene) -> list[tuple[str, str]]:
    """Absent pairs of one object's colour and another's shape, or where there are none, one attribute off an object."""
    present = {(thing.colour, thing.shape) for thing in scene.things}
    possible = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    possible = [pair for pair in possible if pair not in present and (pair in UNSEEN_PAIRS) == scene.unseen]
    colours, shapes = {colour for colour, _ in present}, {shape for _, shape in present}
    crossed = [pair for pair in possible if pair[0] in colours and pair[1] in shapes]
    return crossed or [pair for pair in possible if pair[0] in colours or pair[1] in shapes]


def yes_no(task: str, draw: Draw, template: str, yes: bool, asked: set[str], **parts: str) -> Question:
    """A yes/no question from one of the template's wordings."""
    return Question(
        task=task,
        text=draw.choice(language.QUESTIONS[template]).format(**parts),
        answer="yes" if yes else "no",
        candidates=language.YES_NO,
        asked=frozenset(asked),
    )


def attribute(channel: str) -> Maker:
    """The maker of questions for one object's colour or shape."""

    def make(scene: Scene, draw: Draw, told: Told) -> Question | None:
        index = pick(scene, draw, told)
        if index is None:
            return None
        named = [entry for entry in language.references(scene, index, without=channel) if not entry[1] & told.words]
        if not named:
            return None
        phrase, asked = draw.choice(named)
        answer = getattr(scene.things[index], channel)
        return Question(
            task=channel,
            text=draw.choice(language.QUESTIONS[channel]).format(a=phrase),
            answer=answer,
            candidates=CHANNELS[channel],
            asked=asked,
            told=frozenset((answer,)),
            things=frozenset((index,)),
        )

    return make


def pick(scene: Scene, draw: Draw, told: Told) -> int | None:
    """An object that no turn asked about; the unseen one first."""
    if scene.unseen and scene.focus not in told.things:
        return scene.focus
    open_things = [index for index in range(len(scene.things)) if index not in told.things]
    return draw.choice(open_things) if open_things else None


def count_all(scene: Scene, draw: Draw, told: Told) -> Question | None:
    """How many objects in all; an opening question, since every later one tells of some object."""
    return count_question(scene, draw, "number", "")


def count_question(scene: Scene, draw: Draw, channel: str, word: str) -> Question:
    """How many objects have the attribute; all objects for the empty word."""
    number = sum(1 for thing in scene.things if not word or getattr(thing, channel) == word)
    return Question(
        task="count",
        text=draw.choice(language.QUESTIONS["count"]).format(a=language.plural(word)),
        answer=str(number),
        candidates=language.NUMBERS,
        asked=frozenset((word,)) if word else frozenset(),
        whole=frozenset((channel,)),
    )


def plan_count(draw: Draw) -> tuple[Plan, Maker]:
    """A scene with 0 to 3 objects of one attribute, all numbers equally likely, and the question for them."""
    channel = draw.choice(COUNT_CHANNELS)
    word = draw.choice(CHANNELS[channel])
    plan = Plan(channel=channel, counts={word: draw.between(0, COUNT_LIMIT)})
    return plan, lambda scene, draw, told: count_question(scene, draw, channel, word)


def plan_comparison(draw: Draw) -> tuple[Plan, Maker]:
    """Two attributes, a coin for the answer, and numbers of objects that make it true."""
    channel = draw.choice(("shape", "colour"))
    first, second = draw.sample(CHANNELS[channel], 2)
    yes = draw.coin()
    larger = draw.between(1, COUNT_LIMIT)
    smaller = draw.between(0, min(larger - 1, 4 - larger))
    if not yes and draw.coin(1 / 3):
        larger = smaller = draw.between(1, 2)
    template = draw.choice(("more", "fewer"))
    swap = yes == (template == "fewer")
    counts = {first: smaller, second: larger} if swap else {first: larger, second: smaller}

    def make(scene: Scene, draw: Draw, told: Told) -> Question:
        question = yes_no(
            "comparison", draw, template, yes, {first, second}, a=language.plural(first), b=language.plural(second)
        )
        return replace(question, whole=frozenset((channel,)))

    return Plan(channel=channel, counts=counts), make


def same_size(scene: Scene, draw: Draw, told: Told) -> Question | None:
    """Whether two objects share their size; sizes are fair coins, so the answer is one too."""
    chosen = two_things(scene, draw, told, [(a, b) for a in range(len(scene.things)) for b in range(len(scene.things))])
    if chosen is None:
        return None
    (first, second), (a, b), asked = chosen
    return Question(
        task="comparison",
        text=draw.choice(language.QUESTIONS["same_size"]).format(a=a, b=b),
        answer="yes" if scene.things[first].size == scene.things[second].size else "no",
        candidates=language.YES_NO,
        asked=asked,
        things=frozenset((first, second)),
    )


def spatial(scene: Scene, draw: Draw, told: Told) -> Question | None:
    """The side of one object on which another lies."""
    chosen = two_things(scene, draw, told, aligned_pairs(scene))
    if chosen is None:
        return None
    (first, second), (a, b), asked = chosen
    return Question(
        task="spatial",
        text=draw.choice(language.QUESTIONS["spatial"]).format(a=a, b=b),
        answer=side_of(scene, first, second),
        candidates=language.SIDES,
        asked=asked,
        things=frozenset((first, second)),
    )


def aligned_pairs(scene: Scene) -> list[tuple[int, int]]:
    """Ordered pairs of objects in one row or column: there one word for the side is right and no other."""
    cells = [(thing.row, thing.column) for thing in scene.things]
    numbers = range(len(cells))
    return [(a, b) for a in numbers for b in numbers if (cells[a][0] == cells[b][0]) != (cells[a][1] == cells[b][1])]


def side_of(scene: Scene, first: int, second: int) -> str:
    """left, right, above or below: where the first of two aligned objects lies as seen from the second."""
    one, other = scene.things[first], scene.things[second]
    if one.row == other.row:
        return "left" if one.column < other.column else "right"
    return "above" if one.row < other.row else "below"


def two_things(
    scene: Scene, draw: Draw, told: Told, pairs: list[tuple[int, int]]
) -> tuple[tuple[int, int], tuple[str, str], frozenset[str]] | None:
    """Two different objects among ``pairs`` with a phrase for each that names neither size nor place.

    One of the questions asks for the size and one for the place.
    """
    options = []
    for first, second in pairs:
        if first == second or {first, second} & told.things:
            continue
        if scene.unseen and scene.focus not in (first, second):
            continue
        options.append((first, second))
    if not options:
        return None
    first, second = draw.choice(options)
    phrases = []
    asked: frozenset[str] = frozenset()
    for index in (first, second):
        named = [
            entry
            for entry in language.references(scene, index, without="size", places=False)
            if entry[1] and not entry[1] & told.words
        ]
        if not named:
            return None
        phrase, spoken = draw.choice(named)
        phrases.append(phrase)
        asked |= spoken
    return (first, second), (phrases[0], phrases[1]), asked


def region(task: str) -> Maker:
    """The maker of questions for an object given by its box: all its attributes, its colour, or its shape."""

    def make(scene: Scene, draw: Draw, told: Told) -> Question | None:
        index = pick(scene, draw, told)
        if index is None:
            return None
        thing = scene.things[index]
        if task == "region_describe":
            answer, candidates = language.full_phrase(thing), language.DESCRIPTIONS
        else:
            channel = task.removeprefix("region_")
            answer, candidates = getattr(thing, channel), CHANNELS[channel]
        return Question(
            task=task,
            text=draw.choice(language.QUESTIONS[task]),
            answer=answer,
            candidates=candidates,
            told=frozenset(answer.split()),
            things=frozenset((index,)),
            boxes=(index,),
        )

    return make


def region_locate(scene: Scene, draw: Draw, told: Told) -> Question | None:
    """A phrase that fits one object, answered by its box."""
    index = pick(scene, draw, told)
    if index is None:
        return None
    named = [entry for entry in language.references(scene, index, places=False) if not entry[1] & told.words]
    if not named:
        return None
    phrase, asked = draw.choice(named)
    return Question(
        task="region_locate",
        text=draw.choice(language.QUESTIONS["region_locate"]).format(a=phrase),
        answer="<box>",
        asked=asked,
        things=frozenset((index,)),
        answer_box=index,
    )


MAKERS: dict[str, Maker] = {
    "existence": existence,
    "colour": attribute("colour"),
    "shape": attribute("shape"),
    "count": count_all,
    "comparison": same_size,
    "spatial": spatial,
    "region_describe": region("region_describe"),
    "region_colour": region("region_colour"),
    "region_shape": region("region_shape"),
    "region_locate": region_locate,
}
PLANNERS = {"count": plan_count, "comparison": plan_comparison}
