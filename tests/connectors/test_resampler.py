"""The Perceiver resampler against values of OpenFlamingo's code and against transformers' IDEFICS module."""

import pytest
import torch
from flamingo_reference import RESAMPLER_NAMES, check_golden, fill_by_rule, wave
from tiny import fill
from transformers import IdeficsConfig
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

from zoo.connectors import ConnectorContext
from zoo.connectors.resampler import Resampler
from zoo.encoders import Features
from zoo.errors import ZooError

ATTENTION = ("norm_latents.bias", "norm_latents.weight", "norm_media.bias", "norm_media.weight")
OFFICIAL = ["latents", "norm.bias", "norm.weight"] + [
    f"layers.{layer}.{name}"
    for layer in range(2)
    for name in (
        *(f"0.{key}" for key in (*ATTENTION, "to_kv.weight", "to_out.weight", "to_q.weight")),
        *(f"1.{key}" for key in ("0.bias", "0.weight", "1.weight", "3.weight")),
    )
]
SIZES = {"num_latents": 4, "depth": 2, "num_heads": 2, "head_dim": 8}


def build(dim_in=16, dim_out=16, **fields):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Resampler(**SIZES | fields)
        return config.build(dim_in=dim_in, dim_out=dim_out, grid=(2, 2), num_features=5).eval()


def features(num_frames, dim=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    return Features(tokens=torch.randn(num_frames, 5, dim, generator=generator).to(dtype), grid=(2, 2))


def golden_resampler():
    return fill_by_rule(build(), OFFICIAL, RESAMPLER_NAMES)


def test_golden_values():
    module = golden_resampler()
    assert len(OFFICIAL) == 25 == len(module.state_dict())
    media = wave(1, 2, 1, 5, 16, step=0.21, start=0.5)
    check_golden(
        module.resample(media[0]),
        head=[-1.640352, -0.034961, 0.902397, -0.564836, -1.764829, -0.312669],
        tail=[-0.991987, 0.483604, 0.698423],
        total=-0.202993,
        absolute=113.083093,
    )


def test_published_size():
    with torch.device("meta"):
        module = Resampler().build(dim_in=1024, dim_out=1024, grid=(16, 16), num_features=256)
    assert sum(parameter.numel() for parameter in module.parameters()) == 63_019_008


IDEFICS_NAMES = {
    "attention.media_norm.": "0.context_layer_norm.",
    "attention.latent_norm.": "0.latents_layer_norm.",
    "attention.query_norm.": "0.q_layer_norm.",
    "attention.key_norm.": "0.k_layer_norm.",
    "attention.query.": "0.q_proj.",
    "attention.key.": "0.k_proj.",
    "attention.value.": "0.v_proj.",
    "attention.output.": "0.output_proj.",
    "mlp.norm.": "1.ln.",
    "mlp.input.": "1.fc.",
    "mlp.output.": "1.c_proj.",
}


def idefics_name(key):
    if not key.startswith("layers."):
        return key.replace("norm.", "layer_norm.")
    number, rest = key.removeprefix("layers.").split(".", 1)
    ours = next(name for name in IDEFICS_NAMES if rest.startswith(name))
    return f"blocks.{number}.{IDEFICS_NAMES[ours]}{rest.removeprefix(ours)}"


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_equals_the_module_of_idefics(qk_norm, activation):
    config = IdeficsConfig(
        vision_config={"embed_dim": 16}, perceiver_config={"qk_layer_norms_perceiver": qk_norm, "use_resampler": True}
    )
    expected = fill(IdeficsPerceiverResampler(config, 16, 2, 2, 8, 4), 0.2).double()
    if activation == "gelu":
        for _, mlp in expected.blocks:
            mlp.act = torch.nn.GELU()
    ours = build(qk_norm=qk_norm, activation=activation, fused_key_value=False).double()
    ours.load_state_dict({key: expected.state_dict()[idefics_name(key)] for key in ours.state_dict()})
    media = features(3).tokens.double()
    assert (ours.resample(media[:, None]) - expected(media)).abs().max() < 1e-12


def test_frames_of_a_medium_are_read_together_and_media_apart():
    module = build()
    mixed = features(6)
    context = ConnectorContext(num_frames=(1, 3, 1, 1), is_video=(False, True, False, False))
    together = module(mixed, context)
    assert module.num_tokens(context.num_frames, context.is_video) == [4, 4, 4, 4]
    assert together.shape == (16, 16)
    starts = [0, 1, 4, 5]
    for index, (start, frames) in enumerate(zip(starts, context.num_frames)):
        alone = Features(tokens=mixed.tokens[start : start + frames], grid=(2, 2))
        output = module(alone, ConnectorContext(num_frames=(frames,), is_video=(frames > 1,)))
        assert (together[4 * index : 4 * index + 4] - output).abs().max() < 1e-6
    shown = mixed.tokens.clone()
    shown[2] = shown[2].flip(0).sin()
    differs = (module(Features(tokens=shown, grid=(2, 2)), context) - together).abs().amax(-1) > 1e-4
    assert differs.tolist() == [False] * 4 + [True] * 4 + [False] * 8


def test_frame_embeddings_tell_the_order():
    def swapped(module):
        context = ConnectorContext(num_frames=(2,), is_video=(True,))
        given = features(2)
        turned = Features(tokens=given.tokens.flip(0), grid=(2, 2))
        return (module(given, context) - module(turned, context)).abs().max()

    assert swapped(build()) < 1e-6
    module = build(num_frame_embeddings=3)
    assert swapped(module) > 1e-3
    with pytest.raises(ZooError, match="4 frames for connector"):
        module(features(4), ConnectorContext(num_frames=(4,), is_video=(True,)))


def test_the_width_is_projected_where_needed_or_asked():
    assert build().projection is None
    context = ConnectorContext(num_frames=(1, 1), is_video=(False, False))
    assert build(dim_out=12)(features(2), context).shape == (8, 12)
    assert build(project=True)(features(2), context).shape == (8, 16)


def test_without_media_there_are_no_tokens():
    assert build()(features(0), ConnectorContext(num_frames=(), is_video=())).shape == (0, 16)
