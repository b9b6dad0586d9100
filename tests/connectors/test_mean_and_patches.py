"""Florence-2's tokens: the equations written out, and what cannot be."""

import math
from types import SimpleNamespace

import pytest
import torch
from tiny import fill

from zoo.connectors import ConnectorContext, MeanAndPatches
from zoo.connectors.mean_and_patches import sinusoids
from zoo.errors import ZooError


def connector(grid=(2, 3), num_features=6, **fields):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = MeanAndPatches(**fields).build(dim_in=8, dim_out=5, grid=grid, num_features=num_features)
        return fill(module, 0.3)


@torch.no_grad()
def test_tokens_are_those_of_the_equations():
    module = connector(max_side=4, max_frames=3)
    tokens = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    soft = module(SimpleNamespace(tokens=tokens), ConnectorContext(num_frames=(1, 1), is_video=(False, False)))
    expected = []
    for image in tokens:
        # The first frame's place: sine 0, cosine 1, in turns.
        first = torch.tensor([0.0, 1.0] * 4)
        placed = [
            image[3 * row + column] + torch.cat([module.columns.weight[column], module.rows.weight[row]]) + first
            for row in range(2)
            for column in range(3)
        ]
        for token in (sum(placed) / 6, *placed):
            projected = module.projection.weight @ token
            centred = projected - projected.mean()
            expected.append(centred / (centred.square().mean() + 1e-5).sqrt() * module.norm.weight + module.norm.bias)
    torch.testing.assert_close(soft, torch.stack(expected), rtol=0, atol=1e-5)
    assert module.num_tokens([1, 3], [False, True]) == [7, 21] and len(soft) == 14


def test_places_of_frames():
    table = sinusoids(3, 6)
    for frame in range(3):
        for pair in range(3):
            angle = frame * 10000 ** (-pair / 3)
            assert table[frame, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[frame, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    # An odd width has a sine more.
    assert sinusoids(3, 7).shape == (3, 7)


def test_what_cannot_be_is_refused():
    with pytest.raises(ZooError, match=r"connector\.max_side 2"):
        connector(max_side=2)
    with pytest.raises(ZooError, match="no place for a class token"):
        connector(num_features=7)
