"""MiniGPT-v2's connector against its equation, and its size as published."""

import pytest
import torch
import torch.nn.functional as functional
from tiny import fill

from zoo.connectors.base import ConnectorContext
from zoo.connectors.concatenation import Concatenation
from zoo.encoders.vision import Features
from zoo.errors import ZooError
from zoo.factory import build_on_meta
from zoo.registry import get_method


@torch.no_grad()
def test_equals_its_equation():
    connector = fill(Concatenation(num_joined=3).build(dim_in=4, dim_out=5, grid=(2, 3), num_features=6), 0.3)
    tokens = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    found = connector(Features(tokens=tokens, grid=(2, 3)), ConnectorContext(num_frames=[2]))
    assert found.shape == (4, 5) and connector.num_tokens([2, 1], [True, False]) == [4, 2]
    for frame in range(2):
        for row in range(2):
            normed = [
                functional.layer_norm(tokens[frame, 3 * row + i], (4,), connector.norm.weight, connector.norm.bias)
                for i in range(3)
            ]
            expected = connector.projection.weight @ torch.cat(normed) + connector.projection.bias
            assert (found[2 * frame + row] - expected).abs().max() < 1e-5


def test_tokens_that_do_not_come_out_even():
    with pytest.raises(ZooError, match="num_joined 4 does not divide the 9 tokens of a frame"):
        Concatenation().build(dim_in=4, dim_out=5, grid=(3, 3), num_features=9)


def test_size_as_published():
    model = build_on_meta(get_method("minigpt-v2"))
    assert sum(p.numel() for p in model.connector.projection.parameters()) == 23_072_768
    assert model.num_image_tokens() == 256
