"""From an image to the whole of it and its tiles, as the encoder sees them; as transformers' Pillow processors do."""

import math
from dataclasses import dataclass, replace

import torch
from PIL import Image

from zoo.data.tiles import TileGrid, Tiles
from zoo.data.transforms import Geometry, ImageTransform


@dataclass(frozen=True, kw_only=True)
class TileTransform:
    """Source: LLaVA ``llava/mm_utils.py``, ``process_anyres_image``: the whole image is squashed to the square, the
    tiles are cut from a black canvas with the image in its middle, as large as it fits.
    """

    square: ImageTransform
    tiles: Tiles

    def grid(self, size: tuple[int, int]) -> TileGrid:
        """The grid of an image of (width, height) pixels."""
        return self.tiles.grid(size, side=self.square.size)

    def geometry(self, size: tuple[int, int]) -> Geometry:
        """Where an image lies in its first frame, the whole of it."""
        return self._whole.geometry(size)

    def apply(self, image: Image.Image) -> tuple[torch.Tensor, Geometry, TileGrid]:
        """Pixels (1 + tiles, 3, size, size) of float32, the geometry of the first frame, and the grid."""
        image = image.convert("RGB")
        grid, side = self.grid(image.size), self.square.size
        width, height = grid.columns * side, grid.rows * side
        scale_x, scale_y = width / image.width, height / image.height
        if scale_x < scale_y:
            fitted = (width, min(math.ceil(image.height * scale_x), height))
        else:
            fitted = (min(math.ceil(image.width * scale_y), width), height)
        canvas = Image.new("RGB", (width, height))
        corner = ((width - fitted[0]) // 2, (height - fitted[1]) // 2)
        canvas.paste(self.square.resized(image, fitted), corner)
        whole, geometry = self._whole.apply(image)
        frames = [whole]
        for top in range(0, height, side):
            for left in range(0, width, side):
                frames.append(self.square.normalised(canvas.crop((left, top, left + side, top + side))))
        return torch.stack(frames), geometry, grid

    @property
    def _whole(self) -> ImageTransform:
        return replace(self.square, resize="squash", shortest_edge=None)
