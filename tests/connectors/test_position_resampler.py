"""Qwen-VL's resampler: figures that the released code gave, its positions, and what they make a difference to."""

import math

import pytest
import torch
from tiny import fill

from zoo.connectors.base import ConnectorContext
from zoo.connectors.position_resampler import PositionResampler, position_table, resized
from zoo.encoders.vision import Features
from zoo.errors import ZooError

SIZES = {"dim_in": 12, "dim_out": 16, "grid": (4, 4), "num_features": 16}
CONFIG = PositionResampler(num_queries=4, num_heads=2)


def wave(shape, step, phase, scale=1.0):
    return scale * torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * step + phase).view(shape)


@torch.no_grad()
def test_equals_the_released_code():
    connector = CONFIG.build(**SIZES).double()
    # Key number j of the released state dict, in the order of the alphabet, has the values 0.1 sin(0.37 i + 1.3 j).
    number = {"output.bias": 2, "output.weight": 3, "features.weight": 4}
    number |= {"feature_norm.bias": 5, "feature_norm.weight": 6, "query_norm.bias": 7, "query_norm.weight": 8}
    number |= {"queries": 10}
    packed = {"bias": wave((48,), 0.37, 0.0, 0.1), "weight": wave((48, 16), 0.37, 1.3, 0.1)}
    for key, parameter in connector.named_parameters():
        part, _, kind = key.partition(".")
        if part in ("query", "key", "value"):
            parameter.copy_(packed[kind].chunk(3)[("query", "key", "value").index(part)])
        elif key in number:
            parameter.copy_(wave(parameter.shape, 0.37, 1.3 * number[key], 0.1) + ("norm.weight" in key))
    found = connector.read(wave((1, 16, 12), 0.19, 0.4)).flatten()
    head = [0.013511, -0.067475, -0.139742, -0.193681, -0.222090, -0.221131]
    assert found[:6].tolist() == pytest.approx(head, abs=2e-6)
    assert found[-3:].tolist() == pytest.approx([0.234054, 0.225156, 0.186397], abs=2e-6)
    assert found.sum().item() == pytest.approx(-0.458650, abs=2e-5)
    assert found.abs().sum().item() == pytest.approx(9.544879, abs=2e-5)


def test_positions_by_hand():
    table = position_table(2, 16)
    moved = [0.841471, 0.099833, 0.01, 0.001, 0.540302, 0.995004, 0.99995, 1.0]
    still = [0.0] * 4 + [1.0] * 4
    for place, expected in enumerate((still + still, moved + still, still + moved, moved + moved)):
        assert table[place].tolist() == pytest.approx(expected, abs=1e-6)


def test_resized_positions_keep_their_order():
    table = position_table(4, 16)
    assert resized(table, (4, 4)) is table
    larger = resized(table, (8, 8)).unflatten(0, (8, 8))
    assert (larger[:, :, :8] - larger[:1, :, :8]).abs().max() < 1e-6, "the first half tells the column alone"
    assert (larger[:, :, 8:] - larger[:, :1, 8:]).abs().max() < 1e-6
    assert (larger[0].diff(dim=0)[:, 1] > 0).all(), "the slowest but two rises along a row"


def features(num_frames):
    tokens = torch.randn(num_frames, 16, 12, generator=torch.Generator().manual_seed(0))
    return Features(tokens=tokens, grid=(4, 4))


@torch.no_grad()
def test_places_matter_and_frames_do_not_mix():
    torch.manual_seed(0)
    connector = fill(CONFIG.build(**SIZES), 0.3)
    seen = features(2)
    found = connector(seen, ConnectorContext(num_frames=[2]))
    assert found.shape == (8, 16) and connector.num_tokens([2, 1], [True, False]) == [8, 4]
    alone = connector(Features(tokens=seen.tokens[1:], grid=(4, 4)), ConnectorContext(num_frames=[1]))
    assert torch.allclose(found[4:], alone, atol=1e-6)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    shuffled = Features(tokens=seen.tokens[:, order], grid=(4, 4))
    assert (connector(shuffled, ConnectorContext(num_frames=[2])) - found).abs().max() > 1e-2
    connector.key_positions = connector.key_positions[order]
    assert torch.allclose(connector(shuffled, ConnectorContext(num_frames=[2])), found, atol=1e-5)


def test_sizes_as_published():
    with torch.device("meta"):
        connector = PositionResampler().build(dim_in=1664, dim_out=4096, grid=(32, 32), num_features=1024)
    sizes = {name: p.numel() for name, p in connector.named_parameters()}
    after = sum(sizes.pop(key) for key in ("norm.weight", "norm.bias", "projection.weight"))
    # The released resampler keeps its table of positions among its parameters.
    assert sum(sizes.values()) + connector.query_positions.numel() == 76_054_528
    assert after == 16_785_408
    assert "query_positions" not in connector.state_dict()


@pytest.mark.parametrize(
    ("config", "sizes", "message"),
    [
        (PositionResampler(num_queries=5), {}, "num_queries 5 is no square number"),
        (PositionResampler(num_queries=4, num_heads=3), {}, "num_heads 3 and 4 have to divide .* width 16"),
        (CONFIG, {"num_features": 17}, "class_token: this connector reads patches"),
    ],
)
def test_sizes_that_do_not_fit(config, sizes, message):
    with pytest.raises(ZooError, match=message):
        config.build(**SIZES | sizes)
