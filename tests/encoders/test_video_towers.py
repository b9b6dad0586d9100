"""Towers for videos: temporal attention against its equations, images and videos through two towers in one batch."""

import dataclasses

import pytest
import torch
from tiny import fill

from zoo.encoders import EncoderConfig, build_encoder
from zoo.errors import ZooError

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "hidden_act": "gelu",
}
IMAGE = EncoderConfig(architecture={"model_type": "clip_vision_model", **SIZES}, layer=-2, class_token=True)
VIDEO = dataclasses.replace(IMAGE, architecture={"model_type": "languagebind_video", "num_frames": 4, **SIZES})


def build(config, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return fill(build_encoder(config, **options), 0.2, seed).eval()


def pixels(count, seed=1):
    return torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(seed))


def attend(attention, x):
    """Attention over the rows of x (length, dim), head by head."""
    size = x.shape[1] // attention.num_heads
    heads = []
    for head in range(attention.num_heads):
        part = slice(head * size, (head + 1) * size)
        query, key, value = (p(x)[:, part] for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        heads.append((query @ key.T / size**0.5).softmax(-1) @ value)
    return attention.out_proj(torch.cat(heads, -1))


def equations(model, frames):
    """Features of one video before the last block, one place and one frame after the other."""
    x = model.pre_layrnorm(model.embeddings(frames))  # (frames, tokens, dim)
    for layer in model.encoder.layers[:-1]:
        x = x + layer.temporal_embedding[0, : len(x), None]
        over_time = [
            attend(layer.temporal_attn, layer.temporal_layer_norm1(x[:, place])) for place in range(x.shape[1])
        ]
        x = x + torch.stack(over_time, dim=1)
        x = x + torch.stack([attend(layer.self_attn, layer.layer_norm1(frame)) for frame in x])
        x = x + layer.mlp(layer.layer_norm2(x))
    return x


@torch.no_grad()
@pytest.mark.parametrize("attention", ["zoo", "eager"])
def test_the_temporal_tower_is_its_equations(attention):
    encoder = build(VIDEO, attention=attention)
    frames = pixels(7)
    expected = torch.cat([equations(encoder.model, video) for video in frames.split([4, 3])])
    tokens = encoder(frames, num_frames=[4, 3]).tokens
    assert expected.std() > 0.3
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_videos_of_any_length_side_by_side_equal_videos_alone():
    encoder = build(VIDEO)
    counts = [2, 4, 1, 2, 3]
    frames = pixels(12)
    features = encoder(frames, levels=[1], num_frames=counts)
    alone = [encoder(video, levels=[1], num_frames=[len(video)]) for video in frames.split(counts)]
    for name in ("tokens", "class_token", "pooled"):
        expected = torch.cat([getattr(part, name) for part in alone])
        torch.testing.assert_close(getattr(features, name), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.levels[0], torch.cat([part.levels[0] for part in alone]), rtol=0, atol=1e-5)
    assert (features.tokens[:2] - encoder(frames[:2], num_frames=[1, 1]).tokens).abs().max() > 0.1


@torch.no_grad()
def test_images_and_videos_go_through_their_own_towers():
    encoder = build(dataclasses.replace(IMAGE, video=VIDEO))
    assert {key.split(".")[0] for key in encoder.state_dict()} == {"model", "video"}
    frames = pixels(7)
    counts, kinds = [1, 3, 1, 2], [False, True, False, True]
    tokens = encoder(frames, num_frames=counts, is_video=kinds).tokens
    plain = dataclasses.replace(IMAGE, video=None)
    image = build(plain)
    image.model.load_state_dict(encoder.model.state_dict())
    for part, expected in zip(
        tokens.split(counts),
        [
            image(frames[:1]).tokens,
            encoder.video(frames[1:4], num_frames=[3]).tokens,
            image(frames[4:5]).tokens,
            encoder.video(frames[5:], num_frames=[2]).tokens,
        ],
    ):
        torch.testing.assert_close(part, expected, rtol=0, atol=1e-5)
    assert torch.equal(encoder(frames).tokens, image(frames).tokens)


def test_the_checkpoint_of_a_whole_languagebind_model_gives_its_tower(tmp_path):
    import json

    from safetensors.torch import save_file

    encoder = build(VIDEO)
    state = {f"vision_model.{key}": value for key, value in encoder.model.state_dict().items()}
    save_file(state | {"text_model.final_layer_norm.weight": torch.ones(4)}, tmp_path / "model.safetensors")
    vision = {"model_type": "clip_vision_model", "add_time_attn": True, "num_frames": 4, **SIZES}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "LanguageBindVideo", "vision_config": vision}))
    loaded = build_encoder(dataclasses.replace(VIDEO, architecture={}, id=str(tmp_path)))
    for key, value in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_what_does_not_fit_is_refused():
    with pytest.raises(ZooError, match=r"5 frames .* 4 frame embeddings"):
        build(VIDEO)(pixels(5), num_frames=[5])
    with pytest.raises(ZooError, match="make them equal"):
        build(dataclasses.replace(IMAGE, video=dataclasses.replace(VIDEO, class_token=False)))
