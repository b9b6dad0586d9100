"""The synthetic world: coloured shapes on a jittered 3 x 3 grid, in the spirit of CLEVR (arXiv 1612.06890) and
ShapeWorld (arXiv 1704.04517). A scene is a small immutable record; images, labels, texts and questions are read off it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from zoo.data.scenes.draw import Draw
from zoo.errors import ZooError, nearest

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped")
CHANNELS = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES}
CHANNEL_OF = {word: channel for channel, words in CHANNELS.items() for word in words}
PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
SPLITS = ("train", "validation", "test")
GRID = 3
MAX_THINGS = 4

# Kept out of train and validation. One for each shape and no colour twice, so that no answer becomes much rarer.
UNSEEN_PAIRS = (("red", "star"), ("green", "triangle"), ("blue", "circle"), ("purple", "square"))
# Every fourth block of test items or scenes holds one of them.
UNSEEN_EVERY = 4

# Radii as a fraction of the image side. A cell is 1/3 wide, so a jittered object never leaves its cell.
RADIUS = {"small": 0.085, "large": 0.13}
RADIUS_JITTER = 0.05
# The farthest point of any shape from its centre, in radii (the tips of the star).
REACH = 1.05
CELL_MARGIN = 0.012
# How far a centre may lie from its cell's: little enough that cell and size together give a box of IoU over 0.5.
CENTRE_JITTER = 0.03
# Extents (left, top, right, bottom) of each shape around its centre, in radii; render.py draws exactly these.
SQUARE_HALF = 0.88
TRIANGLE = ((0.0, -0.95), (0.98, 0.82), (-0.98, 0.82))
STAR_INNER = 0.46
COS18, SIN54 = 0.9510565162951535, 0.8090169943749475
EXTENTS = {
    "circle": (-1.0, -1.0, 1.0, 1.0),
    "square": (-SQUARE_HALF, -SQUARE_HALF, SQUARE_HALF, SQUARE_HALF),
    "triangle": (-0.98, -0.95, 0.98, 0.82),
    "star": (-REACH * COS18, -REACH, REACH * COS18, REACH * SIN54),
}


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. ``x``, ``y`` (centre) and ``radius`` are fractions of the image side; y grows downwards."""

    shape: str
    colour: str
    size: str
    texture: str
    column: int
    row: int
    x: float
    y: float
    radius: float

    @property
    def place(self) -> str:
        """The name of its cell, such as ``top left``."""
        return PLACES[self.row * GRID + self.column]

    def extent(self) -> tuple[float, float, float, float]:
        """The tight box (x0, y0, x1, y1) in fractions of the image side."""
        left, top, right, bottom = EXTENTS[self.shape]
        return (
            self.x + left * self.radius,
            self.y + top * self.radius,
            self.x + right * self.radius,
            self.y + bottom * self.radius,
        )


@dataclass(frozen=True, slots=True)
class Motion:
    """What an object does in a video whose time runs from 0 to 1: it appears, then moves by whole cells."""

    columns: int = 0
    rows: int = 0
    begin: float = 0.0
    end: float = 1.0
    appears: float = 0.0

    @property
    def direction(self) -> str:
        """left, right, up, down, or an empty string for an object that stays."""
        if self.columns:
            return "right" if self.columns > 0 else "left"
        if self.rows:
            return "down" if self.rows > 0 else "up"
        return ""

    def progress(self, time: float) -> float:
        """The part of the way done at ``time``."""
        return min(1.0, max(0.0, (time - self.begin) / (self.end - self.begin)))


@dataclass(frozen=True, slots=True)
class Scene:
    """Things are in reading order. ``focus`` is the index of the thing with an unseen pair, or -1.

    ``motions`` is empty for an image and parallel to ``things`` for a video. ``background`` is the seed of its looks.
    """

    name: str
    things: tuple[Thing, ...]
    background: int
    focus: int = -1
    motions: tuple[Motion, ...] = ()

    @property
    def unseen(self) -> bool:
        """Whether it holds a (colour, shape) pair that never occurs in train or validation."""
        return self.focus >= 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a scene must hold so that a question gets the answer drawn for it.

    ``counts`` maps words of one channel to exact numbers; the other things take other words of that channel.
    """

    channel: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    min_things: int = 1
    max_things: int = MAX_THINGS


def split_number(split: str) -> int:
    """The number of a split in every seed, which keeps the splits' scenes apart. Raises ZooError for other names."""
    if split not in SPLITS:
        raise ZooError(f"scenes: unknown split {split!r}.{nearest(split, SPLITS)}")
    return SPLITS.index(split)


@lru_cache(maxsize=64)
def allowed_pairs(
    colours: tuple[str, ...], shapes: tuple[str, ...], unseen: bool
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each colour that any of the shapes may have, with those shapes."""
    fitting = (
        (colour, tuple(shape for shape in shapes if ((colour, shape) in UNSEEN_PAIRS) == unseen)) for colour in colours
    )
    return tuple(entry for entry in fitting if entry[1])


def draw_pair(
    draw: Draw, colours: tuple[str, ...] = COLOURS, shapes: tuple[str, ...] = SHAPES, *, unseen: bool = False
) -> tuple[str, str] | None:
    """A (colour, shape): the colour uniform, then the shape uniform among those allowed; None if there is none."""
    allowed = allowed_pairs(colours, shapes, unseen)
    if not allowed:
        return None
    colour, fitting = draw.choice(allowed)
    return colour, draw.choice(fitting)


def draw_scene(draw: Draw, name: str, *, unseen: bool = False, plan: Plan | None = None) -> Scene:
    """A scene that fulfils the plan. With ``unseen`` its focus has one of UNSEEN_PAIRS and no other thing has."""
    for _ in range(100):
        scene = try_scene(draw, name, unseen, plan or Plan())
        if scene is not None:
            return scene
    raise ZooError(f"scenes: no scene fulfils {plan} with unseen={unseen}; demand fewer things")


def try_scene(draw: Draw, name: str, unseen: bool, plan: Plan) -> Scene | None:
    """As draw_scene, but one attempt only: None where the plan's words leave the focus no unseen pair."""
    demanded = [word for word, count in plan.counts.items() for _ in range(count)]
    low = max(plan.min_things, len(demanded), 1)
    num_things = draw.between(low, max(low, plan.max_things))
    others = [word for word in CHANNELS.get(plan.channel, ()) if word not in plan.counts]
    words = demanded + [draw.choice(others) if others else "" for _ in range(num_things - len(demanded))]
    if plan.channel and not others and len(demanded) < num_things:
        return None
    if plan.channel:
        words = draw.shuffled(words)
    focus = draw.below(num_things) if unseen else -1
    cells = draw.sample(range(GRID * GRID), num_things)
    things = []
    for index in range(num_things):
        fixed = {plan.channel: words[index]} if plan.channel else {}
        colours = (fixed["colour"],) if "colour" in fixed else COLOURS
        shapes = (fixed["shape"],) if "shape" in fixed else SHAPES
        pair = draw_pair(draw, colours, shapes, unseen=index == focus)
        if pair is None:
            return None
        size = fixed.get("size") or draw.choice(SIZES)
        texture = fixed.get("texture") or draw.choice(TEXTURES)
        things.append(place_thing(draw, pair[1], pair[0], size, texture, cells[index]))
    order = sorted(range(num_things), key=lambda index: (things[index].row, things[index].column))
    return Scene(
        name=name,
        things=tuple(things[index] for index in order),
        background=draw.below(2**31),
        focus=order.index(focus) if unseen else -1,
    )


def place_thing(draw: Draw, shape: str, colour: str, size: str, texture: str, cell: int) -> Thing:
    """A thing with its size and centre jittered inside the cell (0 to 8, row by row)."""
    radius = RADIUS[size] * draw.uniform(1 - RADIUS_JITTER, 1 + RADIUS_JITTER)
    room = min(CENTRE_JITTER, 0.5 / GRID - REACH * radius - CELL_MARGIN)
    row, column = divmod(cell, GRID)

    def offset() -> float:
        # The sum of two draws: the likeliest centre is the cell's own.
        return (draw.uniform(-room, room) + draw.uniform(-room, room)) / 2

    return Thing(
        shape=shape,
        colour=colour,
        size=size,
        texture=texture,
        column=column,
        row=row,
        x=(column + 0.5) / GRID + offset(),
        y=(row + 0.5) / GRID + offset(),
        radius=radius,
    )
