"""Tiles of an image: it is seen once as a whole and once in pieces at the encoder's resolution (LLaVA-1.6's "anyres").

Which grid an image is cut into, and which patches of the grid are image and not padding, follow from its size alone.
Source: LLaVA ``llava/mm_utils.py`` (``select_best_resolution``) and ``llava/model/llava_arch.py`` (``unpad_image``).
"""

from dataclasses import dataclass

from zoo.errors import ZooError

# LLaVA-1.6's five, in its order: the official code reads each pair as (width, height).
ANYRES_GRIDS = ((2, 1), (1, 2), (2, 2), (1, 3), (3, 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class TileGrid:
    """How an image of (width, height) pixels was cut: rows x columns tiles, of which it fills the middle."""

    width: int
    height: int
    rows: int
    columns: int

    @property
    def num_frames(self) -> int:
        """What the encoder is given of the image: the whole of it, then its tiles row by row."""
        return 1 + self.rows * self.columns

    def unpadded(self, patches: tuple[int, int], *, digits: int | None = None) -> tuple[slice, slice]:
        """Rows and columns of patches that hold image, where a tile has ``patches`` (rows, columns) of them.

        ``digits``: places after the point that the image's shorter side is rounded to before it is cut to a whole
        number of patches; None cuts at once.
        """
        num_rows, num_columns = self.rows * patches[0], self.columns * patches[1]
        if self.width / self.height > num_columns / num_rows:
            return _middle(num_rows, self.height * (num_columns / self.width), digits), slice(0, num_columns)
        return slice(0, num_rows), _middle(num_columns, self.width * (num_rows / self.height), digits)


def _middle(length: int, filled: float, digits: int | None) -> slice:
    whole = int(filled if digits is None else round(filled, digits))
    padding = (length - whole) // 2
    return slice(padding, length - padding)


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Which grids of tiles a method cuts images into.

    Args:
        grids: (rows, columns) of the grids to choose from. The one that keeps most of the image's pixels is taken, of
            those the one that wastes least, of those the first.
        only_single: the images of a sample with several of them are not cut (LLaVA-OneVision).

    Raises:
        ZooError: without grids, or for a grid without tiles.
    """

    grids: tuple[tuple[int, int], ...] = ANYRES_GRIDS
    only_single: bool = False

    def __post_init__(self) -> None:
        if not self.grids or any(len(grid) != 2 or min(grid) < 1 for grid in self.grids):
            raise ZooError(f"tiles.grids {self.grids} must be pairs (rows, columns) of at least 1; mend them")

    def grid(self, size: tuple[int, int], *, side: int) -> TileGrid:
        """The grid of tiles of ``side`` pixels for an image of (width, height) pixels."""
        width, height = size

        def fit(grid: tuple[int, int]) -> tuple[int, int]:
            rows, columns = grid
            scale = min(columns * side / width, rows * side / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            return kept, kept - rows * columns * side**2

        rows, columns = max(self.grids, key=fit)
        return TileGrid(width=width, height=height, rows=rows, columns=columns)
