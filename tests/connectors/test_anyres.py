"""Tiles arranged as one map: order, ends of rows, padding, the cap, and what becomes of videos."""

import math

import pytest
import torch
import torch.nn.functional as functional

from zoo.connectors import AnyResolutionMLP, ConnectorContext
from zoo.data.tiles import TileGrid
from zoo.encoders import Features
from zoo.errors import ZooError

NEWLINE = -1.0
GRID = (2, 2)


def build(grid=GRID, dim_in=1, dim_out=1, **fields):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AnyResolutionMLP(**fields).build(
            dim_in=dim_in, dim_out=dim_out, grid=grid, num_features=grid[0] * grid[1]
        )


def transparent(**fields):
    """A connector whose tokens are its features, of one channel."""
    connector = build(depth=1, **fields)
    with torch.no_grad():
        connector.layers[0].weight.fill_(1.0)
        connector.layers[0].bias.zero_()
        connector.newline.fill_(NEWLINE)
    return connector


def run(connector, frames, media):
    """media: (number of frames, is a video, grid)."""
    counts, kinds, grids = zip(*media)
    features = Features(tokens=frames, grid=connector.grid)
    soft = connector(features, ConnectorContext(num_frames=counts, is_video=kinds, tile_grids=grids))
    num_tokens = connector.num_tiled_tokens(counts, kinds, grids)
    assert sum(num_tokens) == len(soft)
    return soft.split(num_tokens)


def tiles_of(num_tiles):
    """The whole image is 900, 901, ...; tile t holds 100 t + (0, 1 / 2, 3)."""
    tiles = [[[100.0 * t + i] for i in range(4)] for t in range(num_tiles)]
    return torch.tensor([[[900.0 + i] for i in range(4)], *tiles])


@torch.no_grad()
def test_order_of_the_official_code():
    grid = TileGrid(width=50, height=50, rows=2, columns=2)
    (soft,) = run(transparent(), tiles_of(4), [(5, False, grid)])
    expected = [900, 901, 902, 903, 0, 1, 100, 101, NEWLINE, 2, 3, 102, 103, NEWLINE]
    expected += [200, 201, 300, 301, NEWLINE, 202, 203, 302, 303, NEWLINE]
    assert soft[:, 0].tolist() == expected


@torch.no_grad()
def test_padding_is_left_out():
    # Twice as wide as high on two rows of one tile: half of the 4 x 2 patches are padding.
    wide = TileGrid(width=40, height=40, rows=2, columns=1)
    (soft,) = run(transparent(), tiles_of(2), [(3, False, wide)])
    assert soft[4:, 0].tolist() == [2, 3, NEWLINE, 100, 101, NEWLINE]
    tall = TileGrid(width=40, height=40, rows=1, columns=2)
    (soft,) = run(transparent(), tiles_of(2), [(3, False, tall)])
    assert soft[4:, 0].tolist() == [1, 100, NEWLINE, 3, 102, NEWLINE]


@torch.no_grad()
def test_an_image_that_was_not_cut_is_ended_and_a_frame_is_not():
    frames = torch.arange(12.0).view(3, 4, 1)
    image, video = run(transparent(), frames, [(1, False, None), (2, True, None)])
    assert image[:, 0].tolist() == [0, 1, 2, 3, NEWLINE]
    assert video[:, 0].tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    # Without anything said of tiles or kinds, every medium is such an image.
    connector = transparent()
    soft = connector(Features(tokens=frames[:1], grid=GRID), ConnectorContext(num_frames=[1]))
    assert torch.equal(soft, image) and connector.num_tokens([1], [False]) == [5]


@torch.no_grad()
def test_many_tiles_are_shrunk_to_the_patches_of_a_few():
    connector = build(grid=(4, 4), dim_in=3, dim_out=5, max_tiles=2)
    frames = torch.randn(1 + 9, 16, 3)
    grid = TileGrid(width=90, height=60, rows=3, columns=3)
    (soft,) = run(connector, frames, [(10, False, grid)])
    tokens = connector.project(frames.flatten(0, 1)).view(10, 16, 5)
    whole = torch.zeros(12, 12, 5)
    for number, tile in enumerate(tokens[1:]):
        y, x = divmod(number, 3)
        whole[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = tile.view(4, 4, 5)
    seen = whole[2:10]  # an image of 3 : 2 fills 8 of 12 rows
    excess = math.sqrt(8 * 12 / (2 * 16))
    size = (int(8 // excess), int(12 // excess))
    shrunk = functional.interpolate(seen.permute(2, 0, 1)[None], size=size, mode="bilinear")[0].permute(1, 2, 0)
    ended = torch.cat([shrunk, connector.newline.expand(size[0], 1, 5)], dim=1)
    assert torch.allclose(soft, torch.cat([tokens[0], ended.flatten(0, 1)]), atol=1e-6)


@torch.no_grad()
def test_the_cap_leaves_a_little_more_alone():
    connector = build(grid=(10, 10), max_tiles=1)
    for width, num_rows, num_columns in ((110, 10, 12), (130, 8, 11)):
        # 10 x 12 patches are 1.2 times those of a tile, 10 x 14 are 1.4 times.
        grid = TileGrid(width=width, height=100, rows=1, columns=2)
        expected = 100 + num_rows * (num_columns + 1)
        assert connector.num_tiled_tokens([3], [False], [grid]) == [expected]


@pytest.mark.parametrize(("pool", "expected"), [("average", [2.5, 4.5, 10.5, 12.5]), ("max", [5.0, 7.0, 13.0, 15.0])])
@torch.no_grad()
def test_frames_are_pooled_before_the_projection(pool, expected):
    frames = torch.arange(32.0).view(2, 16, 1)
    connector = transparent(grid=(4, 4), video_pool=pool)
    image, video = run(connector, frames, [(1, False, None), (1, True, None)])
    assert len(image) == 17 and video[:, 0].tolist() == [16 + value for value in expected]
    # Before: the projection is not linear.
    deep = build(grid=(4, 4), dim_in=1, dim_out=3, video_pool=pool)
    (video,) = run(deep, frames[:1], [(1, True, None)])
    assert torch.allclose(video, deep.project(torch.tensor(expected)[:, None]))


@torch.no_grad()
def test_the_edge_of_an_odd_map():
    frames = torch.arange(9.0).view(1, 9, 1)
    (kept,) = run(transparent(grid=(3, 3), video_pool="average"), frames, [(1, True, None)])
    assert kept[:, 0].tolist() == [2, 3.5, 6.5, 8]
    (dropped,) = run(transparent(grid=(3, 3), video_pool="average", pool_drops_edge=True), frames, [(1, True, None)])
    assert dropped[:, 0].tolist() == [2]


@torch.no_grad()
def test_bilinear_frames_are_halved_behind_the_projection_and_the_video_is_ended():
    connector = build(grid=(3, 3), dim_in=2, dim_out=4, video_pool="bilinear")
    frames = torch.randn(2, 9, 2)
    (video,) = run(connector, frames, [(2, True, None)])
    maps = connector.project(frames.flatten(0, 1)).view(2, 3, 3, 4).permute(0, 3, 1, 2)
    halved = functional.interpolate(maps, size=(2, 2), mode="bilinear").flatten(2).transpose(1, 2).flatten(0, 1)
    assert torch.allclose(video, torch.cat([halved, connector.newline[None]]), atol=1e-6)


def test_the_newline_is_in_the_graph_of_every_batch():
    connector = build(video_pool="average")
    (soft,) = run(connector, torch.randn(2, 4, 1), [(2, True, None)])
    soft.sum().backward()
    assert connector.newline.grad is not None and not connector.newline.grad.any()


def test_what_has_no_place_on_a_map_is_refused():
    with pytest.raises(ZooError, match="class_token=false"):
        AnyResolutionMLP().build(dim_in=1, dim_out=1, grid=GRID, num_features=5)
    with pytest.raises(ZooError, match="Did you mean 'average'"):
        AnyResolutionMLP(video_pool="averag")
