"""Image preprocessing, equal to transformers' Pillow processors, with the geometry that carries boxes along.

Resizing goes through Pillow because the published checkpoints were trained on Pillow's filters; tensor resizing rounds
differently. The arithmetic follows the order and precision of transformers' ``*ImageProcessorPil`` classes, so results
agree to the bit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from zoo.data.media import MAX_IMAGE_PIXELS
from zoo.data.sample import Box
from zoo.errors import ZooError, nearest

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SIGLIP_MEAN = (0.5, 0.5, 0.5)
SIGLIP_STD = (0.5, 0.5, 0.5)

RESIZES = ("crop", "squash", "pad")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """How an original image of (width, height) pixels lies in the square of ``size`` pixels that the encoder sees.

    frame x = original x * scale_x + offset_x, the same for y. Coordinates are continuous: 0 is the left edge of the
    first pixel, the width is the right edge of the last.
    """

    width: int
    height: int
    size: int
    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float

    def to_frame(self, box: Box) -> Box:
        """A box in original pixels, in pixels of the frame. What a crop cut off is cut off; nothing left: area 0."""
        x0, x1 = (_clip(x * self.scale_x + self.offset_x, self.size) for x in (box.x0, box.x1))
        y0, y1 = (_clip(y * self.scale_y + self.offset_y, self.size) for y in (box.y0, box.y1))
        return replace(box, x0=x0, y0=y0, x1=x1, y1=y1)

    def fractions(self, box: Box) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of a box in original pixels, as fractions of the frame.

        Rounded far below a pixel: text formats round again, and 0.2655 must not have become 0.26549999999999996.
        """
        frame = self.to_frame(box)
        x0, y0, x1, y1 = (round(value / self.size, 9) for value in (frame.x0, frame.y0, frame.x1, frame.y1))
        return x0, y0, x1, y1

    def from_fractions(self, values: Sequence[str | float]) -> Box:
        """Corners as fractions of the frame, in original pixels: clipped to the frame, swapped in the wrong order."""
        x0, y0, x1, y1 = (min(float(value), 1.0) * self.size for value in values)
        return self.to_original(Box(x0=min(x0, x1), y0=min(y0, y1), x1=max(x0, x1), y1=max(y0, y1)))

    def to_original(self, box: Box) -> Box:
        """A box in pixels of the frame, in pixels of the original image. What reaches into the padding is cut off."""
        x0, x1 = (_clip((x - self.offset_x) / self.scale_x, self.width) for x in (box.x0, box.x1))
        y0, y1 = (_clip((y - self.offset_y) / self.scale_y, self.height) for y in (box.y0, box.y1))
        return replace(box, x0=x0, y0=y0, x1=x1, y1=y1)


@dataclass(frozen=True, kw_only=True)
class ImageTransform:
    """From an image of any size to a normalised square tensor.

    ``resize`` is one of

    - ``crop``: the shorter edge becomes ``shortest_edge``, then the centre is cropped (``CLIPImageProcessor``,
      ``BitImageProcessor``; LLaVA's "square");
    - ``squash``: straight to the square, changing the aspect ratio (``BlipImageProcessor``, ``SiglipImageProcessor``);
    - ``pad``: to a square with ``pad_colour`` first, the image in the middle, an odd pixel going right or below
      (LLaVA's ``expand2square``, ``LlavaImageProcessor`` with ``do_pad``), then resized.

    Args:
        size: side of the result in pixels.
        resize: see above.
        mean: of the three channels, on the scale 0..1.
        std: of the three channels, on the scale 0..1.
        interpolation: nearest, bilinear, bicubic or lanczos.
        pad_colour: RGB from 0 to 255; None is ``int(255 * mean)``, as LLaVA has it.
        shortest_edge: pixels of the shorter edge before a crop; None is ``size``. DINOv2 publishes 256 for 224.

    Raises:
        ZooError: for a value out of range, naming it.
    """

    size: int
    resize: str = "crop"
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    interpolation: str = "bicubic"
    pad_colour: tuple[int, ...] | None = None
    shortest_edge: int | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ZooError(f"image size {self.size} is not possible; give at least 1 pixel")
        if self.resize not in RESIZES:
            raise ZooError(f"unknown resize {self.resize!r}.{nearest(self.resize, RESIZES)}")
        if self.interpolation not in INTERPOLATIONS:
            hint = nearest(self.interpolation, set(INTERPOLATIONS))
            raise ZooError(f"unknown interpolation {self.interpolation!r}.{hint}")
        for name in ("mean", "std", "pad_colour"):
            value = getattr(self, name)
            if value is not None and len(value) != 3:
                raise ZooError(f"{name} has {len(value)} values {tuple(value)}; give one for each of red, green, blue")
        if min(self.std) <= 0:
            raise ZooError(f"std {tuple(self.std)} has a value that is not positive; pixels are divided by it")
        if self.shortest_edge is not None and (self.resize != "crop" or self.shortest_edge < self.size):
            raise ZooError(
                f"shortest_edge {self.shortest_edge} needs resize 'crop' (is {self.resize!r}) and at least the size "
                f"{self.size}; leave it out or change one of them"
            )

    def apply(self, image: Image.Image) -> tuple[torch.Tensor, Geometry]:
        """Preprocess one image of any mode.

        Returns:
            pixels (3, size, size) of float32, and the geometry that maps boxes to them and back.
        """
        image = image.convert("RGB")
        geometry = self.geometry(image.size)
        frame = {"crop": self._crop, "squash": self._squash, "pad": self._pad}[self.resize](image, geometry)
        return self.normalised(frame), geometry

    def normalised(self, frame: Image.Image) -> torch.Tensor:
        """Pixels (3, height, width) of float32 of an RGB image that has its final size."""
        # Scaled in float64, then rounded to float32, then normalised: transformers' order, to the bit.
        scaled = (np.asarray(frame).astype(np.float64) * (1 / 255)).astype(np.float32)  # (height, width, 3)
        normalised = (scaled - np.array(self.mean, dtype=np.float32)) / np.array(self.std, dtype=np.float32)
        return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))

    def geometry(self, size: tuple[int, int]) -> Geometry:
        """Where an image of (width, height) pixels will lie, without touching pixels."""
        width, height = size
        offset_x = offset_y = 0.0
        if self.resize == "squash":
            scale_x, scale_y = self.size / width, self.size / height
        elif self.resize == "pad":
            side = max(width, height)
            scale_x = scale_y = self.size / side
            offset_x, offset_y = (side - width) // 2 * scale_x, (side - height) // 2 * scale_y
        else:
            resized_width, resized_height = self._size_before_crop(size)
            scale_x, scale_y = resized_width / width, resized_height / height
            offset_x, offset_y = -float((resized_width - self.size) // 2), -float((resized_height - self.size) // 2)
        return Geometry(
            width=width,
            height=height,
            size=self.size,
            scale_x=scale_x,
            scale_y=scale_y,
            offset_x=offset_x,
            offset_y=offset_y,
        )

    def _size_before_crop(self, size: tuple[int, int]) -> tuple[int, int]:
        edge, shorter = self.shortest_edge or self.size, min(size)
        # The shorter edge is exact, the longer one truncated, in transformers' order of operations.
        width, height = (edge if side == shorter else int(edge * side / shorter) for side in size)
        return width, height

    def resized(self, image: Image.Image, size: tuple[int, int], **options: object) -> Image.Image:
        """An image at another (width, height), by this transform's filter."""
        return image.resize(size, resample=INTERPOLATIONS[self.interpolation], **options)

    def _squash(self, image: Image.Image, geometry: Geometry) -> Image.Image:
        return self.resized(image, (self.size, self.size))

    def _crop(self, image: Image.Image, geometry: Geometry) -> Image.Image:
        width, height = self._size_before_crop(image.size)
        if width * height <= MAX_IMAGE_PIXELS:
            left, top = -int(geometry.offset_x), -int(geometry.offset_y)
            return self.resized(image, (width, height)).crop((left, top, left + self.size, top + self.size))
        # A strip of 1 x 20,000 pixels would grow to gigabytes, of which the crop keeps one square: resize only that
        # (equal up to the order in which Pillow clips between its two passes).
        seen = geometry.to_original(Box(x0=0, y0=0, x1=self.size, y1=self.size))
        return self.resized(image, (self.size, self.size), box=(seen.x0, seen.y0, seen.x1, seen.y1))

    def _pad(self, image: Image.Image, geometry: Geometry) -> Image.Image:
        longest = max(image.size)
        if longest**2 > MAX_IMAGE_PIXELS:
            # The padded square would not fit into memory; it is shrunk to the encoder's size right after anyway.
            limit = math.isqrt(MAX_IMAGE_PIXELS)
            image = self.resized(image, tuple(max(1, round(side * limit / longest)) for side in image.size))
        side = max(image.size)
        square = image
        if image.width != image.height:
            square = Image.new("RGB", (side, side), self._colour())
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return self.resized(square, (self.size, self.size))

    def _colour(self) -> tuple[int, ...]:
        return tuple(self.pad_colour) if self.pad_colour is not None else tuple(int(255 * value) for value in self.mean)


def _clip(value: float, limit: int) -> float:
    return min(max(value, 0.0), float(limit))
