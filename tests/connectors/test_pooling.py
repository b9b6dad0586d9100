"""Spatio-temporal pooling: values worked out by hand, counts, and videos of different lengths side by side."""

from types import SimpleNamespace

import pytest
import torch

from zoo.connectors import ConnectorContext
from zoo.connectors.pooling import SpatioTemporalPooling
from zoo.errors import ZooError


def connector(dim_in=3, dim_out=5, num_features=4, **fields):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = SpatioTemporalPooling(**fields).build(
            dim_in=dim_in, dim_out=dim_out, grid=(2, 2), num_features=num_features
        )
        with torch.no_grad():
            module.projection.bias.normal_()
    return module


def run(module, tokens, num_frames):
    context = ConnectorContext(num_frames=num_frames, is_video=[True] * len(num_frames))
    return module(SimpleNamespace(tokens=tokens), context)


def identity(module):
    with torch.no_grad():
        module.projection.weight.copy_(torch.eye(len(module.projection.bias)))
        module.projection.bias.zero_()
    return module


def test_values_by_hand():
    # Two frames of two patches with one channel: patches 1, 3 and 5, 9.
    tokens = torch.tensor([[[1.0], [3.0]], [[5.0], [9.0]]])
    module = identity(connector(1, 1, 2, num_temporal=4))
    # Mean over the patches of each frame, two zeros in place of the missing frames, mean over the frames of each patch.
    assert run(module, tokens, [2])[:, 0].tolist() == [2.0, 7.0, 0.0, 0.0, 3.0, 6.0]
    assert run(identity(connector(1, 1, 2, num_temporal=4, pad=False)), tokens, [2])[:, 0].tolist() == [2, 7, 3, 6]
    # An image is a video of one frame.
    assert run(module, tokens[:1], [1])[:, 0].tolist() == [2.0, 0.0, 0.0, 0.0, 1.0, 3.0]


def test_a_missing_frame_is_the_bias_of_the_projection():
    module = connector(num_temporal=6)
    soft = run(module, torch.randn(2, 4, 3), [2])
    assert soft.shape == (10, 5)
    assert all(torch.equal(soft[row], module.projection.bias) for row in range(2, 6))
    assert not torch.isclose(soft[1], module.projection.bias).any()


@pytest.mark.parametrize("pad", [True, False])
def test_media_side_by_side_equal_media_alone(pad):
    module = connector(num_temporal=6, pad=pad)
    counts = [3, 1, 6]
    tokens = torch.randn(10, 4, 3, generator=torch.Generator().manual_seed(1))
    alone = [run(module, frames, [len(frames)]) for frames in tokens.split(counts)]
    assert module.num_tokens(counts, [True, False, True]) == [len(soft) for soft in alone]
    assert module.num_tokens(counts, [True] * 3) == ([10, 10, 10] if pad else [7, 5, 10])
    torch.testing.assert_close(run(module, tokens, counts), torch.cat(alone), rtol=0, atol=1e-6)


def test_published_sizes():
    module = SpatioTemporalPooling().build(dim_in=1024, dim_out=8, grid=(16, 16), num_features=256)
    assert module.num_tokens([1, 8, 100], [False, True, True]) == [356, 356, 356]


def test_more_frames_than_places_are_refused():
    with pytest.raises(ZooError, match=r"7 frames.*num_temporal 6"):
        connector(num_temporal=6).num_tokens([2, 7], [True, True])
    with pytest.raises(ZooError, match="num_temporal is 0"):
        connector(num_temporal=0)
