"""Video-LLaVA: checkpoints of transformers' class load with equal logits, those of the original code with its tower."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, VideoLlavaConfig, VideoLlavaForConditionalGeneration

import zoo
from zoo.data.batch import Example, pad
from zoo.data.encode import IGNORED_LABEL
from zoo.encoders.languagebind import LanguageBindVideoConfig, LanguageBindVideoModel
from zoo.errors import ZooError
from zoo.weights import convert, detect, load_released

TOLERANCE = 1e-4
IMAGE_TOKEN, VIDEO_TOKEN = 97, 98
NUM_FRAMES, SIZE = 2, 28
TEXT = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": 14,
}


def scramble(model, seed=0):
    """No parameter keeps a neutral value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def reference(vision=None, **fields):
    config = VideoLlavaConfig(
        text_config=LlamaConfig(**TEXT),
        vision_config=CLIPVisionConfig(**VISION | (vision or {})),
        image_token_index=IMAGE_TOKEN,
        video_token_index=VIDEO_TOKEN,
        image_seq_length=4,
        video_seq_length=NUM_FRAMES * 5,
        **fields,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return scramble(VideoLlavaForConditionalGeneration(config))


# An image, a video, both, none, two images after a video.
PROMPTS = (
    [1, "image", 5, 6],
    [1, 7, "video", 8, 9, 10],
    [1, "image", 11, "video", 12],
    [1, 13, 14, 15, 16],
    ["video", 17, "image", "image", 18],
)


def examples(model):
    generator = torch.Generator().manual_seed(3)
    made = []
    for row, prompt in enumerate(PROMPTS):
        ids, mask, starts, media, frames = [], [], [], [], []
        for piece in prompt:
            is_medium = isinstance(piece, str)
            length = 1
            if is_medium:
                counts = (NUM_FRAMES, piece == "video") if piece == "video" else (1, False)
                length = model.num_media_tokens([counts[0]], [counts[1]])[0]
                starts.append(len(ids))
                media.append(counts)
                frames.append(torch.randn(counts[0], 3, SIZE, SIZE, generator=generator))
            token = {"image": IMAGE_TOKEN, "video": VIDEO_TOKEN}.get(piece, piece)
            ids += [token] * length
            mask += [is_medium] * length
        made.append(
            Example(
                sample_id=str(row),
                ids=torch.tensor(ids),
                labels=torch.full((len(ids),), IGNORED_LABEL),
                media_mask=torch.tensor(mask),
                frames=torch.cat(frames) if frames else None,
                num_frames=tuple(count for count, _ in media),
                is_video=tuple(kind for _, kind in media),
                media_starts=tuple(starts),
                geometries=(),
                num_supervised=0,
            )
        )
    return made


def inputs_of_reference(made, side):
    """The same rows for transformers' class, the placeholder ids in their places."""
    batch = pad(made, side=side)
    ids = torch.zeros_like(batch.ids)
    for row, example in enumerate(made):
        ids[row, batch.attention_mask[row]] = example.ids
    parts = batch.frames.split(batch.num_frames)
    return batch, {
        "input_ids": ids,
        "attention_mask": batch.attention_mask.long(),
        "pixel_values": torch.cat([part for part, kind in zip(parts, batch.is_video) if not kind]),
        "pixel_values_videos": torch.stack([part for part, kind in zip(parts, batch.is_video) if kind]),
    }


@torch.no_grad()
def difference(model, expected, side):
    batch, inputs = inputs_of_reference(examples(model), side)
    theirs = expected(**inputs, position_ids=batch.position_ids).logits
    real = batch.attention_mask
    assert theirs[real].std() > 0.3, "the reference is too tame to show anything"
    return (model(batch).logits[real] - theirs[real]).abs().max().item()


VARIANTS = {
    "published": {},
    "first_layer": {"vision_feature_layer": 1},
    "several_layers": {"vision_feature_layer": [-1, 1]},
    "full": {"vision_feature_select_strategy": "full", "image_seq_length": 5},
    "gelu_tower": {"vision": {"hidden_act": "gelu", "layer_norm_eps": 1e-2}, "projector_hidden_act": "relu"},
    "projector_without_bias": {"multimodal_projector_bias": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_loads_with_equal_logits(variant, tmp_path):
    fields = dict(VARIANTS[variant])
    fields.pop("image_seq_length", None)
    expected = reference(**fields)
    expected.save_pretrained(tmp_path)
    model = zoo.load(tmp_path)
    assert model.method.name == "video-llava"
    assert model.num_media_tokens([1, NUM_FRAMES], [False, True]) == [5 if variant == "full" else 4, 10]
    for side in ("right", "left"):
        assert difference(model, expected, side) < TOLERANCE


@torch.no_grad()
def test_greedy_continuations_are_equal(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path)
    model = zoo.load(tmp_path)
    batch, inputs = inputs_of_reference(examples(model), "left")
    theirs = expected.generate(**inputs, do_sample=False, max_new_tokens=8, eos_token_id=2, pad_token_id=0)
    new = [row[: row.index(2)] if 2 in row else row for row in theirs[:, batch.ids.shape[1] :].tolist()]
    ours = model.generate(batch, max_new_tokens=8, stop_ids=[2])
    assert ours == new and len({tuple(row) for row in ours}) > 2


def hub_key(key):
    """A name in memory as the files of transformers 4 have it."""
    if key.startswith("lm_head."):
        return f"language_model.{key}"
    key = key.removeprefix("model.")
    for part, inner in (
        ("language_model.", "model."),
        ("image_tower.", "vision_model."),
        ("video_tower.", "vision_model."),
    ):
        if key.startswith(part):
            return part + inner + key.removeprefix(part)
    return key


def test_conversion_is_lossless_both_ways(tmp_path):
    expected = reference()
    hub = {hub_key(key): value for key, value in expected.state_dict().items()}
    canonical = convert(hub, "video-llava-hf", "to_canonical")
    back = convert(canonical, "video-llava-hf", "from_canonical")
    assert back.keys() == hub.keys() and all(back[key] is hub[key] for key in hub)
    expected.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    for state in (saved, expected.state_dict()):
        again = convert(state, "video-llava-hf", "to_canonical")
        assert again.keys() == canonical.keys() == zoo.load(tmp_path).state_dict().keys()
        assert all(torch.equal(again[key], canonical[key]) for key in again)


def write_original(folder):
    """A checkpoint of the original code: temporal attention in the video tower, towers described in folders of it."""
    expected = reference(vision={"hidden_act": "gelu"})
    config = LanguageBindVideoConfig(**VISION, hidden_act="gelu", num_frames=NUM_FRAMES)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        video = scramble(LanguageBindVideoModel(config), seed=1)
    state = {f"model.video_tower.video_tower.{key}": value for key, value in video.state_dict().items()}
    for key, value in expected.state_dict().items():
        for old, new in (
            ("model.image_tower.", "model.image_tower.image_tower."),
            ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
            ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
            ("model.language_model.", "model."),
            ("lm_head.", "lm_head."),
        ):
            if key.startswith(old):
                state[new + key.removeprefix(old)] = value
    save_file({key: value.clone() for key, value in state.items()}, folder / "model.safetensors")
    towers = {"image": expected.config.vision_config.to_dict(), "video": config.to_dict()}
    for name, fields in towers.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(fields))
    fields = {
        **TEXT,
        "model_type": "llava",
        "mm_image_tower": "image",
        "mm_video_tower": "video",
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "image_aspect_ratio": "pad",
    }
    (folder / "config.json").write_text(json.dumps(fields))
    return expected, video, state


@torch.no_grad()
def test_the_original_keeps_its_temporal_attention(tmp_path):
    expected, video, state = write_original(tmp_path)
    model = zoo.load(tmp_path)
    assert model.num_media_tokens([1, NUM_FRAMES], [False, True]) == [4, 10]
    made = examples(model)[1]
    features = video(pixel_values=made.frames, num_frames=NUM_FRAMES, output_hidden_states=True).hidden_states[-2]
    embeddings = expected.get_input_embeddings()(made.ids.masked_fill(made.media_mask, 0))
    embeddings[made.media_mask] = expected.model.multi_modal_projector(features).flatten(0, 1)
    theirs = expected.lm_head(expected.model.language_model(inputs_embeds=embeddings[None]).last_hidden_state)
    assert (model(pad([made])).logits - theirs).abs().max() < TOLERANCE
    # Images do not meet the video tower: both kinds of checkpoint see the same.
    image = examples(model)[0]
    ids = image.ids[None]
    theirs = expected(input_ids=ids, pixel_values=image.frames).logits
    assert (model(pad([image])).logits - theirs).abs().max() < TOLERANCE
    back = convert(model.state_dict(), "video-llava-original", "from_canonical")
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)


def test_layouts_are_told_apart(tmp_path):
    _, _, state = write_original(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert detect(config, state.keys()).name == "video-llava-original"
    with pytest.raises(ZooError, match="mm_image_tower"):
        (tmp_path / "config.json").write_text(json.dumps(config | {"mm_image_tower": None}))
        load_released(tmp_path)
    expected = reference()
    assert detect(expected.config.to_dict(), expected.state_dict().keys()).name == "video-llava-hf"


def test_dropping_the_temporal_weights_is_refused(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    extra = "model.video_tower.encoder.layers.0.temporal_embedding"
    save_file({**state, extra: torch.rand(1, NUM_FRAMES, 24)}, tmp_path / "model.safetensors")
    with pytest.raises(ZooError, match="temporal_embedding"):
        load_released(tmp_path)


def test_the_config_can_be_saved_with_a_run(tmp_path):
    from zoo.config import from_dict, to_dict

    reference().save_pretrained(tmp_path)
    method = zoo.load(tmp_path).method
    assert dataclasses.asdict(from_dict(type(method), to_dict(method))) == dataclasses.asdict(method)
