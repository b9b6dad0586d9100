"""Scenes to pixels, and to the labels of image patches. Drawn at the size asked for, so that every size is sharp."""

import math
from functools import lru_cache, partial

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from zoo.data.sample import Box
from zoo.data.scenes.world import (
    COLOURS,
    REACH,
    SHAPES,
    SIZES,
    SQUARE_HALF,
    STAR_INNER,
    TEXTURES,
    TRIANGLE,
    Scene,
    Thing,
)
from zoo.errors import ZooError

RGB = {
    "red": (215, 30, 35),
    "green": (30, 150, 50),
    "blue": (35, 75, 215),
    "yellow": (245, 220, 40),
    "purple": (140, 45, 160),
    "orange": (245, 135, 20),
}
# Stripes must differ from their colour in brightness, whatever the colour.
STRIPE_RGB = {colour: (70, 55, 20) if sum(RGB[colour]) > 390 else (250, 250, 250) for colour in COLOURS}
STRIPE_PERIOD = 0.068
MIN_IMAGE_SIZE = 16
STAR = tuple(
    (
        math.cos(math.pi * (point / 5 - 0.5)) * (STAR_INNER if point % 2 else REACH),
        math.sin(math.pi * (point / 5 - 0.5)) * (STAR_INNER if point % 2 else REACH),
    )
    for point in range(10)
)
CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))
SQUARE = tuple((SQUARE_HALF * x, SQUARE_HALF * y) for x, y in CORNERS)
POLYGONS = {"square": SQUARE, "triangle": TRIANGLE, "star": STAR}
# A patch belongs to an object that covers this part of the patch, or that has this part of itself in the patch.
MIN_COVER = 0.15


def render_image(scene: Scene, image_size: int) -> Image.Image:
    """The scene as an RGB image of image_size x image_size pixels. The same arguments give the same bytes."""
    image = _background(scene.background, image_size)
    for thing in scene.things:
        _paint(image, thing, thing.x, thing.y)
    return image


def render_video(scene: Scene, image_size: int, num_frames: int) -> list[Image.Image]:
    """``num_frames`` images, evenly spaced in time with both ends included."""
    background = _background(scene.background, image_size)
    frames = []
    for number in range(num_frames):
        time = number / (num_frames - 1)
        frame = background.copy()
        for thing, motion in zip(scene.things, scene.motions, strict=True):
            if time >= motion.appears:
                done = motion.progress(time) / 3
                _paint(frame, thing, thing.x + done * motion.columns, thing.y + done * motion.rows)
        frames.append(frame)
    return frames


def image_source(scene: Scene, image_size: int) -> partial:
    """A picklable function without arguments that renders the image."""
    return partial(render_image, scene, image_size)


def video_source(scene: Scene, image_size: int, num_frames: int) -> partial:
    """A picklable function without arguments that renders the list of frames."""
    return partial(render_video, scene, image_size, num_frames)


def check_image_size(image_size: int) -> int:
    """The size itself, or ZooError where small and large would no longer differ."""
    if image_size < MIN_IMAGE_SIZE:
        raise ZooError(f"scenes: image_size {image_size} is too small; use {MIN_IMAGE_SIZE} or more")
    return image_size


def thing_box(thing: Thing, image_size: int, medium: int = 0) -> Box:
    """The tight box of an object in pixels."""
    x0, y0, x1, y1 = (value * image_size for value in thing.extent())
    return Box(x0=x0, y0=y0, x1=x1, y1=y1, medium=medium)


def cell_labels(scene: Scene, grid: int) -> np.ndarray:
    """(grid * grid, 4) int64, row by row: shape, colour, size, texture of the object in each patch, from 1; 0 for none.

    Where two objects touch one patch the one that covers more of it counts.
    """
    labels = np.zeros((grid * grid, 4), dtype=np.int64)
    covered = np.zeros((grid, grid))
    edges = np.arange(grid) / grid
    for thing in scene.things:
        x0, y0, x1, y1 = thing.extent()
        width = np.clip(np.minimum(edges + 1 / grid, x1) - np.maximum(edges, x0), 0, None)
        height = np.clip(np.minimum(edges + 1 / grid, y1) - np.maximum(edges, y0), 0, None)
        overlap = height[:, None] * width[None, :]
        smaller = min(1 / grid**2, (x1 - x0) * (y1 - y0))
        mine = (overlap >= MIN_COVER * smaller) & (overlap > covered)
        covered = np.where(mine, overlap, covered)
        labels[mine.ravel()] = (
            1 + SHAPES.index(thing.shape),
            1 + COLOURS.index(thing.colour),
            1 + SIZES.index(thing.size),
            1 + TEXTURES.index(thing.texture),
        )
    return labels


def _background(seed: int, image_size: int) -> Image.Image:
    """Plain, gradient or noise; light or dark, nearly grey: the six colours stay the only saturated ones."""
    generator = np.random.Generator(np.random.PCG64(seed))
    kind, light, level, *_ = generator.random(4).tolist()
    level = 165 + 50 * level if light < 0.5 else 45 + 45 * level
    first, second = level + generator.uniform(-20, 20, (2, 1)) + generator.uniform(-12, 12, (2, 3))
    if kind < 1 / 3:
        corners = first.reshape(1, 1, 3)
    elif kind < 2 / 3:
        corners = np.stack([first, second]).reshape((1, 2, 3) if kind < 1 / 2 else (2, 1, 3))
    else:
        # A coarse grid of tints rather than noise by pixel: it looks the same at every image size.
        mix = generator.random((12, 12, 1))
        corners = first + (second - first) * mix + (mix - 0.5) * 24
    small = Image.fromarray(np.clip(corners, 0, 255).astype(np.uint8))
    return small.resize((image_size, image_size), Image.Resampling.BILINEAR)


@lru_cache(maxsize=8)
def _stripes(period: int, side: int) -> Image.Image:
    diagonal = np.add.outer(np.arange(side), np.arange(side))
    return Image.fromarray(np.where((diagonal // (period // 2)) % 2, 255, 0).astype(np.uint8))


def _paint(image: Image.Image, thing: Thing, x: float, y: float) -> None:
    size = image.width
    scale = 4 if size < 160 else 2
    radius = thing.radius * size
    left, top = math.floor(x * size - REACH * radius), math.floor(y * size - REACH * radius)
    side = math.ceil(2 * REACH * radius) + 1
    centre_x, centre_y, radius = (x * size - left) * scale, (y * size - top) * scale, radius * scale
    mask = Image.new("L", (side * scale, side * scale), 0)
    pen = ImageDraw.Draw(mask)
    if thing.shape == "circle":
        pen.ellipse((centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius), fill=255)
    else:
        points = [(centre_x + radius * dx, centre_y + radius * dy) for dx, dy in POLYGONS[thing.shape]]
        pen.polygon(points, fill=255)
    image.paste(RGB[thing.colour], (left, top), mask.reduce(scale))
    if thing.texture == "striped":
        period = 2 * max(2, round(STRIPE_PERIOD * size * scale / 2))
        pattern = _stripes(period, 2 * round(size * scale * 0.2)).crop((0, 0, side * scale, side * scale))
        image.paste(STRIPE_RGB[thing.colour], (left, top), ImageChops.darker(mask, pattern).reduce(scale))
