"""Several cut-outs on one canvas, each in a cell of its own: what is where is known to the pixel."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from PIL import Image

from zoo.data.pictures.index import Entry
from zoo.data.sample import Box, Medium
from zoo.data.scenes.draw import Draw

# Cells a side, and the share of a cell's side that the longer side of a cut-out takes.
GRID, FILL = 2, (0.6, 0.95)
SIDE = 224
# Light enough for every cut-out to stand out, and not one of them: nothing can be told from the colour.
BACKGROUNDS = ((255, 255, 255), (236, 236, 236), (226, 238, 248), (250, 242, 224), (228, 242, 228))


@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """``places``: the cell of each entry; ``scales`` and ``shifts``: the share of the cell that its longer side takes,
    and where in the free space it lies (0..1, 0..1).
    """

    entries: tuple[Entry, ...]
    places: tuple[int, ...]
    scales: tuple[float, ...]
    shifts: tuple[tuple[float, float], ...]
    background: tuple[int, int, int]

    def box(self, number: int) -> Box:
        """The box of an entry in pixels of the canvas, exact because the cut-outs are cropped to what can be seen."""
        width, height = _size(self.entries[number])
        x, y, width, height = self._placed(number, width, height)
        return Box(x0=x, y0=y, x1=x + width, y1=y + height)

    def medium(self, name: str) -> Medium:
        return Medium(kind="image", source=partial(self.render), name=name)

    def render(self) -> Image.Image:
        image = Image.new("RGB", (SIDE, SIDE), self.background)
        for number, entry in enumerate(self.entries):
            with Image.open(entry.file) as cut_out:
                x, y, width, height = self._placed(number, *cut_out.size)
                piece = cut_out.convert("RGBA").resize((width, height), Image.Resampling.BICUBIC)
            image.paste(piece, (x, y), piece)
        return image

    def _placed(self, number: int, width: int, height: int) -> tuple[int, int, int, int]:
        """x, y, width and height in whole pixels."""
        cell = SIDE // GRID
        factor = self.scales[number] * cell / max(width, height)
        width, height = max(1, round(width * factor)), max(1, round(height * factor))
        row, column = divmod(self.places[number], GRID)
        right, down = self.shifts[number]
        return column * cell + int(right * (cell - width)), row * cell + int(down * (cell - height)), width, height


def draw_canvas(draw: Draw, chosen: list[Entry]) -> Canvas:
    """A canvas with these entries in random cells."""
    return Canvas(
        entries=tuple(chosen),
        places=tuple(draw.sample(range(GRID**2), len(chosen))),
        scales=tuple(draw.uniform(*FILL) for _ in chosen),
        shifts=tuple((draw.uniform(), draw.uniform()) for _ in chosen),
        background=draw.choice(BACKGROUNDS),
    )


def on_white(entry: Entry) -> Callable[[], Image.Image]:
    """A cut-out alone, as a source of a medium."""
    return partial(_on_white, entry)


def _on_white(entry: Entry) -> Image.Image:
    with Image.open(entry.file) as image:
        cut_out = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", cut_out.size, "white"), cut_out).convert("RGB")


def _size(entry: Entry) -> tuple[int, int]:
    with Image.open(entry.file) as image:
        return image.size
