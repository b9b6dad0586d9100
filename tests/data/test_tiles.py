"""Grids of tiles: published counts, transformers' choices, and its pixels to the bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import conversation
from transformers import AutoTokenizer, LlavaNextImageProcessorPil, LlavaOnevisionImageProcessorPil
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next.modeling_llava_next import unpad_image

from zoo.data.batch import Preprocessor
from zoo.data.sample import Box, Medium
from zoo.data.templates import get_template
from zoo.data.tile_transform import TileTransform
from zoo.data.tiles import ANYRES_GRIDS, TileGrid, Tiles
from zoo.data.transforms import SIGLIP_MEAN, SIGLIP_STD, ImageTransform
from zoo.errors import ZooError

# Pairs (height, width) of transformers' LLaVA-1.6 at a side of 336, in its order.
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
PAIRED = Tiles(grids=tuple((height // 336, width // 336) for height, width in PINPOINTS))
MANY = Tiles(grids=tuple((rows, columns) for rows in range(1, 7) for columns in range(1, 7)))
SIDES = st.integers(1, 2000)


def picture(size, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def length(part):
    return part.stop - part.start


@pytest.mark.parametrize(
    ("size", "grid", "num_tokens"),
    [
        ((336, 336), (2, 1), 1176),
        ((640, 480), (2, 2), 2340),
        ((480, 640), (2, 2), 2352),
        ((1024, 768), (2, 2), 2340),
        ((1000, 300), (1, 3), 2182),
        ((300, 1000), (3, 1), 2232),
        ((672, 672), (2, 2), 2928),
        ((1920, 1080), (2, 2), 1948),
    ],
)
def test_counts_of_the_official_code(size, grid, num_tokens):
    chosen = Tiles().grid(size, side=336)
    assert (chosen.rows, chosen.columns) == grid and chosen.num_frames == 1 + grid[0] * grid[1]
    rows, columns = (length(part) for part in chosen.unpadded((24, 24)))
    assert 576 + rows * (columns + 1) == num_tokens


@given(width=SIDES, height=SIDES)
@settings(max_examples=300, deadline=None)
def test_the_grid_is_the_one_transformers_takes(width, height):
    for tiles in (PAIRED, MANY):
        expected = select_best_resolution((height, width), [[336 * r, 336 * c] for r, c in tiles.grids])
        grid = tiles.grid((width, height), side=336)
        if expected is not None:  # an image thinner than a pixel of every grid: transformers has no answer
            assert (336 * grid.rows, 336 * grid.columns) == expected


@given(width=SIDES, height=SIDES)
@settings(max_examples=200, deadline=None)
def test_padding_is_cut_as_transformers_does(width, height):
    grid = MANY.grid((width, height), side=336)
    patches = torch.arange(grid.rows * 24 * grid.columns * 24).view(1, grid.rows * 24, grid.columns * 24)
    rows, columns = grid.unpadded((24, 24), digits=7)
    assert torch.equal(patches[:, rows, columns], unpad_image(patches, (height, width)))


def test_rounding_matters_where_the_two_codes_disagree():
    for size in ((328, 205), (352, 748), (748, 352)):
        grid = Tiles().grid(size, side=336)
        assert grid.unpadded((24, 24)) != grid.unpadded((24, 24), digits=7)


def test_equal_grids_go_by_their_order():
    small = (200, 150)
    assert ANYRES_GRIDS[:2] == ((2, 1), (1, 2))
    assert Tiles().grid(small, side=336).rows == 2 and PAIRED.grid(small, side=336).rows == 1


def test_a_thread_of_an_image_has_a_grid():
    grid = Tiles().grid((20_000, 1), side=336)
    rows, columns = grid.unpadded((24, 24))
    assert length(rows) == 0 and length(columns) == 24 * grid.columns


def test_grids_without_tiles_are_refused():
    for grids in ((), ((0, 1),), ((1, 2, 3),)):
        with pytest.raises(ZooError, match=r"tiles\.grids"):
            Tiles(grids=grids)


SIZES = [(40, 30), (30, 40), (28, 28), (70, 25), (25, 71), (13, 9), (120, 56)]


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_the_next_processor(size):
    pairs = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=pairs
    )
    tiles = Tiles(grids=tuple((height // 28, width // 28) for height, width in pairs))
    image = picture(size)
    pixels, geometry, grid = TileTransform(square=ImageTransform(size=28), tiles=tiles).apply(image)
    expected = processor(image, return_tensors="pt")
    assert torch.equal(pixels, expected["pixel_values"][0])
    assert expected["image_sizes"].tolist() == [[grid.height, grid.width]]
    # Boxes are fractions of the whole image, which is squashed.
    assert geometry.fractions(Box(x0=0, y0=0, x1=size[0] / 2, y1=size[1])) == (0, 0, 0.5, 1)


def onevision():
    square = ImageTransform(size=28, resize="pad", mean=SIGLIP_MEAN, std=SIGLIP_STD)
    tiles = Tiles(grids=tuple((rows, columns) for rows in (1, 2, 3) for columns in (1, 2, 3)), only_single=True)
    # The class's own mean is CLIP's; checkpoints have SigLIP's.
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": 28, "width": 28},
        image_grid_pinpoints=[[28 * r, 28 * c] for r, c in tiles.grids],
        image_mean=SIGLIP_MEAN,
        image_std=SIGLIP_STD,
    )
    return square, TileTransform(square=square, tiles=tiles), processor


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_the_onevision_processor(size):
    _, transform, processor = onevision()
    image = picture(size)
    expected = processor(image, return_tensors="pt")
    assert torch.equal(transform.apply(image)[0], expected["pixel_values"][0])


@pytest.fixture
def preprocess(tiny_parts):
    def build(**transforms):
        def positions(frames, kinds, grids):
            return [10 * count + bool(grid) for count, grid in zip(frames, grids or [None] * len(frames))]

        tokenizer = AutoTokenizer.from_pretrained(tiny_parts / "language_model")
        return Preprocessor(tokenizer=tokenizer, num_positions=positions, **transforms)

    return build


def sample(*sizes, kind="image"):
    media = [Medium(kind=kind, source=picture(size, seed)) for seed, size in enumerate(sizes)]
    return conversation("x", [(f"<{kind}>" * len(sizes), "Yes.")], media)


def test_only_a_single_image_is_cut_where_the_method_says_so(preprocess):
    square, transform, processor = onevision()
    squash = ImageTransform(size=28, resize="squash", mean=SIGLIP_MEAN, std=SIGLIP_STD)
    preprocessor = preprocess(transform=square, video_transform=squash, tile_transform=transform)
    one, two = sample((56, 28)), sample((56, 28), (28, 56))
    example = preprocessor(one, get_template("plain"))
    assert example.num_frames == (3,) and example.tile_grids == (TileGrid(width=56, height=28, rows=1, columns=2),)
    assert preprocessor.num_media_tokens(one) == [31] and int(example.media_mask.sum()) == 31
    example = preprocessor(two, get_template("plain"))
    assert example.num_frames == (1, 1) and example.tile_grids == ()
    assert preprocessor.num_media_tokens(two) == [10, 10]
    # transformers pads to a square there, and counts the images of each row.
    pictures = [medium.source for medium in two.media]
    expected = processor([pictures], return_tensors="pt")
    assert torch.equal(example.frames, expected["pixel_values"][:, 0])
    video = preprocessor(sample((56, 28), kind="video"), get_template("plain"))
    assert video.tile_grids == () and torch.equal(video.frames[0], squash.apply(pictures[0])[0])


def test_every_image_is_cut_where_it_does_not(preprocess):
    transform = TileTransform(square=ImageTransform(size=28), tiles=Tiles())
    preprocessor = preprocess(transform=transform.square, tile_transform=transform)
    example = preprocessor(sample((56, 28), (28, 56)), get_template("plain"))
    assert example.num_frames == (3, 3)
    assert [(grid.rows, grid.columns) for grid in example.tile_grids] == [(1, 2), (2, 1)]
