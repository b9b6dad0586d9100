"""MME's pairs (arXiv 2306.13394): two questions on one image, the first true, the second false, otherwise alike."""

from collections.abc import Callable

from zoo.data.scenes import words as language
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.questions import COUNT_LIMIT, Told, absent_pair, aligned_pairs, side_of, two_things
from zoo.data.scenes.source import planned_scene
from zoo.data.scenes.world import COLOURS, UNSEEN_PAIRS, Scene, draw_scene

Pair = tuple[Scene, str, str]
POSITIONS = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def existence_pair(draw: Draw, name: str, unseen: bool) -> Pair:
    """A colour and shape that is there, and one that is not."""
    while True:
        scene = draw_scene(draw, name, unseen=unseen)
        absent = absent_pair(scene, draw)
        if absent is not None:
            present = _chosen(scene, draw)
            return scene, _is_there(*present), _is_there(*absent)


def colour_pair(draw: Draw, name: str, unseen: bool) -> Pair:
    """The right colour of an object, and one that no object of its shape has."""
    scene = draw_scene(draw, name, unseen=unseen)
    colour, shape = _chosen(scene, draw)
    taken = {thing.colour for thing in scene.things if thing.shape == shape}
    others = [other for other in COLOURS if other not in taken and (unseen or (other, shape) not in UNSEEN_PAIRS)]
    return scene, _is_there(colour, shape), _is_there(draw.choice(others), shape)


def count_pair(draw: Draw, name: str, unseen: bool) -> Pair:
    """The right number of objects of a shape or colour, and another number; both from 0 to 3."""
    scene, maker = planned_scene(draw, name, unseen, "count")
    question = maker(scene, draw, Told())
    number = int(question.answer)
    wrong = draw.choice([other for other in range(COUNT_LIMIT + 1) if other != number])
    (word,) = question.asked
    template = language.QUESTIONS["statement_count"][0]
    return scene, *(template.format(n=value, a=language.plural(word)) for value in (number, wrong))


def position_pair(draw: Draw, name: str, unseen: bool) -> Pair:
    """The right side, and the opposite one."""
    template = language.QUESTIONS["statement_position"][0]
    while True:
        scene = draw_scene(draw, name, unseen=unseen)
        chosen = two_things(scene, draw, Told(), aligned_pairs(scene))
        if chosen is not None:
            (first, second), (a, b), _ = chosen
            side = side_of(scene, first, second)
            return scene, *(template.format(a=a, b=b, side=POSITIONS[word]) for word in (side, OPPOSITE[side]))


def _chosen(scene: Scene, draw: Draw) -> tuple[str, str]:
    thing = scene.things[scene.focus] if scene.unseen else draw.choice(scene.things)
    return thing.colour, thing.shape


def _is_there(colour: str, shape: str) -> str:
    phrase = language.article(language.noun_phrase(colour=colour, shape=shape))
    return language.QUESTIONS["probe"][0].format(a=phrase)


# By the names of MME's files.
STATEMENTS: dict[str, Callable[[Draw, str, bool], Pair]] = {
    "existence": existence_pair,
    "count": count_pair,
    "position": position_pair,
    "color": colour_pair,
}
