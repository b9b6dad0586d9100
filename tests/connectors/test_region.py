"""GPT4RoI's region module against its equations, written out level by level and box by box."""

import dataclasses
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as functional
from tiny import fill

from zoo.connectors.base import ConnectorContext
from zoo.connectors.region import GPT4RoI, resize, with_coordinates
from zoo.encoders.vision import Features
from zoo.errors import ZooError

GRID = (3, 2)
CONFIG = GPT4RoI(
    levels=(1, 2, 3), pyramid_scales=(4, 2, 1), width=8, num_rounds=2, num_groups=2, roi_size=3, sampling_ratio=2
)
SIZES = {"dim_in": 6, "dim_out": 5, "grid": GRID, "num_features": 6}


@pytest.fixture
def connector():
    torch.manual_seed(0)
    return fill(CONFIG.build(**SIZES), 0.3)


def features(num_frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens, *levels = (torch.randn(num_frames, 6, 6, generator=generator) for _ in range(4))
    return Features(tokens=tokens, grid=GRID, levels=tuple(levels))


def context(boxes, box_media, num_frames):
    return ConnectorContext(
        num_frames=num_frames,
        is_video=[n > 1 for n in num_frames],
        boxes=torch.tensor(boxes),
        box_media=torch.tensor(box_media),
    )


BOXES = [[0.1, 0.2, 0.9, 0.7], [0.0, 0.0, 0.3, 1.0], [0.5, 0.4, 0.6, 0.5], [0.2, 0.2, 0.8, 0.8]]


def sample(grid, x, y):
    """Bilinear value of (channels, rows, columns) at a place in cell coordinates, the outer cells going on outside."""
    rows, columns = grid.shape[-2:]
    x, y = min(max(x, 0.0), columns - 1.0), min(max(y, 0.0), rows - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, columns - 1), min(top + 1, rows - 1)
    upper = grid[:, top, left] * (1 - x + left) + grid[:, top, right] * (x - left)
    lower = grid[:, bottom, left] * (1 - x + left) + grid[:, bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


def one_region(connector, states, box):
    """The definition for one image, (cells, dim) a level, and one box. Nothing of the module but its weights."""
    module, (rows, columns) = connector.regions, GRID
    levels = []
    for level, (state, scale) in enumerate(zip(states, CONFIG.pyramid_scales)):
        small = state.reshape(rows, columns, -1).permute(2, 0, 1)
        tall, wide = rows * scale, columns * scale
        cells = [
            torch.cat(
                [
                    sample(small, j * (columns - 1) / (wide - 1), i * (rows - 1) / (tall - 1)),
                    torch.tensor([-1 + 2 * j / (wide - 1), -1 + 2 * i / (tall - 1)]),
                ]
            )
            for i in range(tall)
            for j in range(wide)
        ]
        convolution = module.input_convolutions[level]
        mapped = torch.stack(cells) @ convolution.weight[:, :, 0, 0].T + convolution.bias
        levels.append(mapped.T.reshape(-1, tall, wide))
    for exchange in module.rounds:
        new = []
        for level, own in enumerate(levels):
            deeper, shallower = levels[min(level + 1, 2)], levels[max(level - 1, 0)]

            def at_own_size(other, own=own):
                (h, w), (tall, wide) = other.shape[1:], own.shape[1:]
                values = [
                    sample(other, j * (w - 1) / (wide - 1), i * (h - 1) / (tall - 1))
                    for i in range(tall)
                    for j in range(wide)
                ]
                return torch.stack(values, dim=1).reshape(-1, tall, wide)

            mixed = torch.cat([own[0:4], at_own_size(deeper[6:8]), at_own_size(shallower[4:6])])
            mixed = functional.conv2d(mixed[None], exchange.convolution.weight, padding=1)[0]
            groups = mixed.reshape(2, -1)
            groups = (groups - groups.mean(1, keepdim=True)) / (
                groups.var(1, unbiased=False, keepdim=True) + 1e-5
            ).sqrt()
            mixed = (
                groups.reshape(mixed.shape) * exchange.norm.weight[:, None, None] + exchange.norm.bias[:, None, None]
            )
            new.append(mixed.clamp(min=0))
        levels = new
    total = 0
    for level, convolution in zip(levels, module.pooled_convolutions):
        tall, wide = level.shape[1:]
        x0, y0, x1, y1 = box[0] * wide, box[1] * tall, box[2] * wide, box[3] * tall
        bins = torch.zeros(8, 3, 3)
        for row in range(3):
            for column in range(3):
                bins[:, row, column] = (
                    sum(
                        sample(
                            level,
                            x0 + (column + (j + 0.5) / 2) * (x1 - x0) / 3 - 0.5,
                            y0 + (row + (i + 0.5) / 2) * (y1 - y0) / 3 - 0.5,
                        )
                        for i in range(2)
                        for j in range(2)
                    )
                    / 4
                )
        total = total + functional.conv2d(bins[None], convolution.weight, convolution.bias, padding=1)[0]
    flat = total.clamp(min=0).reshape(-1) @ module.flatten.weight.T + module.flatten.bias
    first, _, first_norm, second, _, second_norm = module.box_embedding
    place = first_norm((torch.tensor(box) @ first.weight.T + first.bias).clamp(min=0))
    place = second_norm((place @ second.weight.T + second.bias).clamp(min=0))
    return (flat + place) @ module.projection.weight.T + module.projection.bias


@torch.no_grad()
def test_equals_its_equations(connector):
    seen = features(4)
    # Four frames: an image, a video of two frames, an image. Boxes are in the order of the text, not of the images.
    box_media, first_frame = [2, 0, 1, 0], [0, 1, 3]
    found = connector.forward_regions(seen, context(BOXES, box_media, [1, 2, 1]))
    assert found.shape == (4, 5)
    for number, (box, medium) in enumerate(zip(BOXES, box_media)):
        expected = one_region(connector, [level[first_frame[medium]] for level in seen.levels], box)
        assert (found[number] - expected).abs().max() < 2e-4
    differences = [float((a - b).abs().max()) for a, b in pairwise(found)]
    assert min(differences) > 1e-2, "the boxes have to differ to show a mix-up"


@torch.no_grad()
def test_patches_are_projected(connector):
    seen = features(3)
    tokens = connector(seen, ConnectorContext(num_frames=[1, 2], is_video=[False, True]))
    assert connector.num_tokens([1, 2], [False, True]) == [6, 12]
    weight, bias = connector.projection.weight, connector.projection.bias
    assert torch.allclose(tokens, seen.tokens.reshape(18, 6) @ weight.T + bias, atol=1e-6)


@torch.no_grad()
def test_order_of_boxes_and_other_images_do_not_matter(connector):
    seen = features(2)
    found = connector.forward_regions(seen, context(BOXES, [1, 0, 1, 0], [1, 1]))
    order = [2, 0, 3, 1]
    shuffled = context([BOXES[i] for i in order], [[1, 0, 1, 0][i] for i in order], [1, 1])
    assert torch.allclose(connector.forward_regions(seen, shuffled), found[order], atol=1e-6)
    alone = Features(tokens=seen.tokens[1:], grid=GRID, levels=tuple(level[1:] for level in seen.levels))
    single = connector.forward_regions(alone, context([BOXES[0]], [0], [1]))
    assert torch.allclose(single[0], found[0], atol=1e-5)


def test_every_weight_gets_a_gradient(connector):
    seen = features(2)
    levels = tuple(level.requires_grad_() for level in seen.levels)
    seen = dataclasses.replace(seen, levels=levels)
    connector.forward_regions(seen, context(BOXES, [0, 0, 1, 1], [1, 1])).square().sum().backward()
    for name, parameter in connector.regions.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert all(level.grad.abs().max() > 0 for level in levels)


def test_half_precision(connector):
    seen = features(1)
    expected = connector.forward_regions(seen, context(BOXES, [0] * 4, [1]))
    half = Features(tokens=seen.tokens.bfloat16(), grid=GRID, levels=tuple(level.bfloat16() for level in seen.levels))
    found = connector.bfloat16().forward_regions(half, context(BOXES, [0] * 4, [1]))
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.1 * expected.abs().max()


def test_published_sizes():
    with torch.device("meta"):
        connector = GPT4RoI().build(dim_in=1024, dim_out=4096, grid=(16, 16), num_features=256)
    sizes = {name: tuple(parameter.shape) for name, parameter in connector.regions.named_parameters()}
    assert connector.levels == (14, 17, 20, 23)
    assert sizes["input_convolutions.3.weight"] == (1024, 1026, 1, 1)
    assert sizes["rounds.4.convolution.weight"] == (1024, 1024, 3, 3) and "rounds.4.convolution.bias" not in sizes
    assert sizes["flatten.weight"] == (1024, 200_704)
    assert sizes["box_embedding.0.weight"] == (256, 4) and sizes["box_embedding.3.weight"] == (1024, 256)
    assert sizes["projection.weight"] == (4096, 1024)


def test_sizes_that_do_not_fit():
    with pytest.raises(ZooError, match="pyramid_scales"):
        dataclasses.replace(CONFIG, levels=(1, 2)).build(**SIZES)
    with pytest.raises(ZooError, match="num_groups 3"):
        dataclasses.replace(CONFIG, num_groups=3).build(**SIZES)


def test_resize_and_coordinates_by_hand():
    line = torch.tensor([0.0, 1.0, 4.0]).reshape(1, 1, 1, 3)
    assert resize(line, (1, 5))[0, 0, 0].tolist() == [0.0, 0.5, 1.0, 2.5, 4.0]
    maps = with_coordinates(torch.zeros(2, 1, 2, 3))
    assert maps.shape == (2, 3, 2, 3)
    assert maps[1, 1].tolist() == [[-1, 0, 1], [-1, 0, 1]] and maps[1, 2].tolist() == [[-1] * 3, [1] * 3]
