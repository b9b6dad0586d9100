"""Short videos: objects that move by whole cells, one after the other, or that appear; and the questions about them."""

from dataclasses import replace

from zoo.data.scenes import words as language
from zoo.data.scenes.draw import Draw
from zoo.data.scenes.questions import Maker, Question, Told
from zoo.data.scenes.world import GRID, Motion, Plan, Scene, Thing, draw_scene

MAX_MOVERS = 3
# The least and the most objects that move in a video drawn for a question. One for a direction: among objects that move
# one after another, tiny models need far longer to learn whose path is whose.
NUM_MOVERS = {"motion_direction": (1, 1), "event_order": (2, MAX_MOVERS), "event_count": (0, MAX_MOVERS)}
MIN_FRAMES, MAX_FRAMES = 4, 8
# With four frames the second and the third lie at 1/3 and 2/3: each appearance falls between two frames.
APPEARANCES = (0.3, 0.6)
STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def draw_video(
    draw: Draw, name: str, *, unseen: bool = False, movers: int | None = None, appear: bool = False
) -> Scene:
    """A scene with motions. ``movers`` of None draws 0 to 3; with ``appear`` two objects appear and none moves."""
    wanted = draw.between(0, MAX_MOVERS) if movers is None else movers
    wanted = 0 if appear else wanted
    plan = Plan(min_things=max(1, wanted, 2 * appear), max_things=MAX_MOVERS)
    while True:
        scene = draw_scene(draw, name, unseen=unseen, plan=plan)
        motions = _appearances(scene, draw) if appear else _motions(scene, draw, wanted)
        if motions is not None:
            return replace(scene, motions=motions)


def _appearances(scene: Scene, draw: Draw) -> tuple[Motion, ...]:
    motions = [Motion() for _ in scene.things]
    for index, time in zip(draw.sample(range(len(motions)), 2), APPEARANCES):
        motions[index] = Motion(appears=time)
    return tuple(motions)


def _motions(scene: Scene, draw: Draw, movers: int) -> tuple[Motion, ...] | None:
    """Motions whose paths share no cell with one another or with an object at rest; None if the draw finds none."""
    moving = draw.sample(range(len(scene.things)), movers)
    taken = {(thing.column, thing.row) for thing in scene.things}
    slots = [(part / movers, (part + 1) / movers) for part in range(movers)]
    if movers == 1:
        slots = [draw.choice(((0.0, 1.0), (0.0, 0.5), (0.5, 1.0)))]
    motions = [Motion() for _ in scene.things]
    for index, (begin, end) in zip(moving, slots):
        thing = scene.things[index]
        paths = {step: _free_path(thing, step, taken) for step in STEPS}
        steps = [step for step, path in paths.items() if path]
        if not steps:
            return None
        columns, rows = draw.choice(steps)
        length = draw.between(1, len(paths[columns, rows]))
        taken.update(paths[columns, rows][:length])
        motions[index] = Motion(columns=length * columns, rows=length * rows, begin=begin, end=end)
    return tuple(motions)


def _free_path(thing: Thing, step: tuple[int, int], taken: set[tuple[int, int]]) -> list[tuple[int, int]]:
    path = []
    cell = (thing.column + step[0], thing.row + step[1])
    while 0 <= cell[0] < GRID and 0 <= cell[1] < GRID and cell not in taken:
        path.append(cell)
        cell = (cell[0] + step[0], cell[1] + step[1])
    return path


def motion_direction(scene: Scene, draw: Draw, told: Told) -> Question | None:
    """The direction of an object that moves."""
    moving = [i for i, motion in enumerate(scene.motions) if motion.direction and i not in told.things]
    if scene.unseen:
        moving = [i for i in moving if i == scene.focus] or (moving if told.num_questions else [])
    if not moving:
        return None
    index = draw.choice(moving)
    named = [entry for entry in language.references(scene, index, places=False) if not entry[1] & told.words]
    if not named:
        return None
    phrase, asked = draw.choice(named)
    return Question(
        task="motion_direction",
        text=draw.choice(language.QUESTIONS["motion_direction"]).format(a=phrase),
        answer=scene.motions[index].direction,
        candidates=language.DIRECTIONS,
        asked=asked,
        things=frozenset((index,)),
    )


def event_order(scene: Scene, draw: Draw, told: Told) -> Question | None:
    """Which of two objects moves or appears first; they are named in random order."""
    acting = {i: motion.begin for i, motion in enumerate(scene.motions) if motion.direction}
    acting = acting or {i: motion.appears for i, motion in enumerate(scene.motions) if motion.appears}
    named = [i for i in acting if sum(_pair(scene, i) == _pair(scene, j) for j in range(len(scene.things))) == 1]
    if len(named) < 2:
        return None
    first, second = draw.sample(named, 2)
    if scene.unseen and scene.focus not in (first, second):
        return None
    earlier = min(first, second, key=acting.__getitem__)
    phrases = [language.short_phrase(scene.things[index]) for index in (first, second)]
    asked = frozenset(" ".join(phrases).split())
    if asked & told.words:
        return None
    template = "moves_first" if scene.motions[first].direction else "appears_first"
    return Question(
        task="event_order",
        text=draw.choice(language.QUESTIONS[template]).format(a=f"the {phrases[0]}", b=f"the {phrases[1]}"),
        answer=language.short_phrase(scene.things[earlier]),
        candidates=tuple(phrases),
        asked=asked,
    )


def _pair(scene: Scene, index: int) -> tuple[str, str]:
    return scene.things[index].colour, scene.things[index].shape


def event_count(scene: Scene, draw: Draw, told: Told) -> Question | None:
    """How many objects move; an opening question, since the others presuppose that some do."""
    number = sum(1 for motion in scene.motions if motion.direction)
    return Question(
        task="event_count",
        text=draw.choice(language.QUESTIONS["event_count"]),
        answer=str(number),
        candidates=language.NUMBERS[: MAX_MOVERS + 1],
        whole=frozenset(("number",)),
    )


VIDEO_MAKERS: dict[str, Maker] = {
    "motion_direction": motion_direction,
    "event_order": event_order,
    "event_count": event_count,
}
