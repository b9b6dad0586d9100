"""Video-LLaMA's two Q-Formers: equal to transformers' BLIP-2 Q-Former, frames in order, any number of them."""

from types import SimpleNamespace

import pytest
import torch
from tiny import fill
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from zoo.connectors import ConnectorContext
from zoo.connectors.video_qformer import VideoQFormer
from zoo.errors import ZooError

DIM_IN, DIM_OUT, WIDTH = 20, 24, 16
CONFIG = VideoQFormer(
    num_frame_queries=3, num_queries=5, max_frames=6, width=WIDTH, num_layers=4, num_heads=4, intermediate=40
)
# transformers' names of what a body has, most specific first.
NAMES = (
    ("encoder.layer.", "layers."),
    ("crossattention.attention.", "cross_attention."),
    ("crossattention.output.dense.", "cross_attention.output."),
    ("crossattention.output.LayerNorm.", "cross_attention.norm."),
    (".attention.attention.", ".attention."),
    (".attention.output.dense.", ".attention.output."),
    (".attention.output.LayerNorm.", ".attention.norm."),
    ("intermediate_query.dense.", "query_mlp.up."),
    ("output_query.dense.", "query_mlp.down."),
    ("output_query.LayerNorm.", "query_mlp.norm."),
    ("layernorm.", "norm."),
)


@pytest.fixture
def connector():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = CONFIG.build(dim_in=DIM_IN, dim_out=DIM_OUT, grid=(2, 3), num_features=7)
    return fill(module, 0.3).eval()


def reference(body, dim_in, every):
    """transformers' Q-Former with the weights of a body."""
    config = Blip2QFormerConfig(
        hidden_size=WIDTH,
        num_hidden_layers=len(body.layers),
        num_attention_heads=4,
        intermediate_size=40,
        cross_attention_frequency=every,
        encoder_hidden_size=dim_in,
    )
    model = Blip2QFormerModel(config).eval()
    state = {}
    for key in model.state_dict():
        ours = key
        for old, new in NAMES:
            ours = ours.replace(old, new)
        state[key] = body.state_dict()[ours]
    model.load_state_dict(state)
    return lambda tokens: (
        model(query_embeds=body.queries.expand(len(tokens), -1, -1), encoder_hidden_states=tokens).last_hidden_state
    )


def run(module, tokens, num_frames):
    context = ConnectorContext(num_frames=num_frames, is_video=[count > 1 for count in num_frames])
    return module(SimpleNamespace(tokens=tokens), context)


def frames(count, seed=0):
    return torch.randn(count, 7, DIM_IN, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_it_is_the_published_computation(connector):
    per_frame, over_frames = reference(connector.frame, DIM_IN, 2), reference(connector.video, WIDTH, 1)
    tokens = frames(8)
    normalised = torch.nn.functional.layer_norm(tokens, (DIM_IN,), connector.norm.weight, connector.norm.bias, 1e-5)
    queries = per_frame(normalised).unflatten(0, (2, 4))  # (videos, frames, frame queries, width)
    queries = queries + connector.positions(torch.arange(4))[None, :, None]
    expected = connector.projection(over_frames(queries.flatten(1, 2)))
    ours = run(connector, tokens, [4, 4])
    assert expected.std() > 0.3
    torch.testing.assert_close(ours.unflatten(0, (2, 5)), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_media_of_different_lengths_equal_media_alone(connector):
    counts = [2, 6, 1, 3]
    tokens = frames(12)
    alone = [run(connector, part, [len(part)]) for part in tokens.split(counts)]
    assert connector.num_tokens(counts, [True, True, False, True]) == [5, 5, 5, 5]
    torch.testing.assert_close(run(connector, tokens, counts), torch.cat(alone), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_order_of_the_frames_matters(connector):
    tokens = frames(3)
    difference = (run(connector, tokens, [3]) - run(connector, tokens.flip(0), [3])).abs().max()
    assert difference > 1e-2
    connector.positions.weight.zero_()
    torch.testing.assert_close(run(connector, tokens, [3]), run(connector, tokens.flip(0), [3]), rtol=0, atol=1e-5)


def test_more_frames_than_positions_are_refused(connector):
    with pytest.raises(ZooError, match=r"7 frames.*max_frames 6"):
        connector.num_tokens([7], [True])
