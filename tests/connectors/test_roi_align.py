"""RoIAlign against the definition, sample by sample, and against values worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.connectors.roi_align import roi_align


def bilinear(grid, y, x):
    """The value of one channel (height, width) at a place in cell coordinates; torchvision's rules at the border."""
    height, width = grid.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(math.floor(y), height - 1), min(math.floor(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down = 0.0 if top == height - 1 else y - top
    across = 0.0 if left == width - 1 else x - left
    upper = grid[top, left] * (1 - across) + grid[top, right] * across
    lower = grid[bottom, left] * (1 - across) + grid[bottom, right] * across
    return float(upper * (1 - down) + lower * down)


def slow(features, boxes, box_index, size, samples, aligned):
    result = torch.zeros(len(boxes), features.shape[1], size, size)
    offset = 0.5 if aligned else 0.0
    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        width, height = x1 - x0, y1 - y0
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        for channel in range(features.shape[1]):
            grid = features[box_index[number], channel]
            for row in range(size):
                for column in range(size):
                    values = [
                        bilinear(
                            grid,
                            y0 - offset + (row + (i + 0.5) / samples) * height / size,
                            x0 - offset + (column + (j + 0.5) / samples) * width / size,
                        )
                        for i in range(samples)
                        for j in range(samples)
                    ]
                    result[number, channel, row, column] = sum(values) / len(values)
    return result


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_equals_the_definition(data):
    height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    size, samples = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    seed = data.draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 2, height, width, generator=generator)
    # Also boxes that reach outside the map, and empty and inverted ones.
    boxes = torch.rand(3, 4, generator=generator) * 12 - 2
    box_index = torch.tensor([1, 0, 1])
    for aligned in (True, False):
        found = roi_align(features, boxes, box_index, size=size, sampling_ratio=samples, aligned=aligned)
        expected = slow(features, boxes, box_index, size, samples, aligned)
        assert (found - expected).abs().max() < 1e-4


def test_values_worked_out_by_hand():
    # Each cell holds its column + 10 * row, so that a sample's value is its place.
    grid = (torch.arange(4.0) + 10 * torch.arange(4.0)[:, None])[None, None]
    # One sample in the middle of the box (1, 1, 3, 3), that is at (2, 2) and in cell coordinates at (1.5, 1.5).
    box = torch.tensor([[1.0, 1.0, 3.0, 3.0]])
    at = torch.tensor([0])
    assert roi_align(grid, box, at, size=1, sampling_ratio=1).item() == pytest.approx(16.5)
    assert roi_align(grid, box, at, size=1, sampling_ratio=1, aligned=False).item() == pytest.approx(22.0)
    # Two bins a side: their middles are at 1.5 and 2.5, which are the centres of the cells 1 and 2.
    assert roi_align(grid, box, at, size=2, sampling_ratio=1)[0, 0].tolist() == [[11.0, 12.0], [21.0, 22.0]]
    # The whole map: the middles of the outer bins lie on the cells' centres; beyond them the outer cell goes on.
    whole = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    assert roi_align(grid, whole, at, size=4, sampling_ratio=1)[0, 0].tolist() == grid[0, 0].tolist()
    # Bins of 2 x 2 cells with two samples a side are means of four cells.
    assert roi_align(grid, whole, at, size=2)[0, 0].tolist() == [[5.5, 7.5], [25.5, 27.5]]
    # Corners of the map, sampled beyond the outer centres: along an axis the samples are at 0 and 0.25, mean 0.125.
    corner = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert roi_align(grid, corner, at, size=1).item() == pytest.approx(0.125 + 1.25)
    # More than a cell outside the map there is nothing.
    outside = torch.tensor([[6.0, 6.0, 8.0, 8.0]])
    assert roi_align(grid, outside, at, size=1).item() == 0.0


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 2, 5, 4, generator=generator, requires_grad=True)
    boxes = torch.tensor([[0.3, 0.4, 3.1, 4.2], [1.0, 1.2, 2.0, 2.6]], requires_grad=True)
    roi_align(features, boxes, torch.tensor([1, 1]), size=2).square().sum().backward()
    assert features.grad[1].abs().max() > 0 and not features.grad[0].any()
    step = 1e-2
    for index in ((0, 0), (1, 3)):
        values = []
        for sign in (1, -1):
            moved = boxes.detach().clone()
            moved[index] += sign * step
            values.append(roi_align(features.detach(), moved, torch.tensor([1, 1]), size=2).square().sum())
        assert boxes.grad[index] == pytest.approx(float(values[0] - values[1]) / (2 * step), rel=0.05, abs=0.02)


def test_types_and_empty_inputs():
    features = torch.randn(1, 3, 4, 4)
    none = roi_align(features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), size=2)
    assert none.shape == (0, 3, 2, 2)
    boxes = torch.tensor([[0.0, 0.0, 3.0, 2.0]])
    half = roi_align(features.bfloat16(), boxes, torch.tensor([0]), size=2)
    whole = roi_align(features.bfloat16().float(), boxes, torch.tensor([0]), size=2)
    assert half.dtype == torch.bfloat16 and torch.equal(half, whole.bfloat16())
    with pytest.raises(ValueError, match="sampling_ratio is 0"):
        roi_align(features, boxes, torch.tensor([0]), size=2, sampling_ratio=0)
