"""LLaVA-1.6, LLaVA-NeXT-Video, LLaVA-OneVision: released layouts load with equal logits and convert without loss."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_llava_hf import hub_key
from test_llava_original import original_state, write
from tile_reference import CLASSES, difference, examples, inputs_of_reference, reference
from transformers import AutoConfig

import zoo
from zoo.config import from_dict, to_dict
from zoo.errors import ZooError
from zoo.factory import build_on_meta
from zoo.language.known import KNOWN
from zoo.registry import get_method
from zoo.weights import convert, detect, load_released

TOLERANCE = 1e-4
VARIANTS = {
    "next": ("llava-next", {}),
    "next_mistral": (
        "llava-next",
        {"text_type": "mistral", "text": {"num_key_value_heads": 2, "sliding_window": 9}},
    ),
    "next_hyper_parameters": (
        "llava-next",
        {
            "vision": {"hidden_act": "gelu", "layer_norm_eps": 1e-2, "patch_size": 14},
            "text": {"rms_norm_eps": 1e-2, "rope_parameters": {"rope_type": "default", "rope_theta": 200.0}},
            "projector_hidden_act": "relu",
        },
    ),
    "next_several_layers": ("llava-next", {"vision_feature_layer": [-1, 1]}),
    "next_without_bias": ("llava-next", {"multimodal_projector_bias": False}),
    "next_two_grids": (
        "llava-next",
        {"vision": {"num_hidden_layers": 2}, "image_grid_pinpoints": [[28, 56], [56, 28]]},
    ),
    "video": ("llava-next-video", {}),
    "video_maximum": ("llava-next-video", {"spatial_pool_mode": "max"}),
    "video_odd_map": ("llava-next-video", {"vision": {"patch_size": 9}}),
    "video_rope_scaling": (
        "llava-next-video",
        {"text": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}}},
    ),
    "onevision": ("llava-onevision", {}),
    "onevision_capped": ("llava-onevision", {"vision_aspect_ratio": "anyres_max_2"}),
    "onevision_odd_map": ("llava-onevision", {"vision": {"patch_size": 9}, "vision_aspect_ratio": "anyres_max_1"}),
    "onevision_tied": ("llava-onevision", {"text": {"tie_word_embeddings": True}, "vision_feature_layer": -2}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_loads_with_equal_logits(variant, tmp_path):
    name, fields = VARIANTS[variant]
    expected = reference(name, **fields)
    expected.save_pretrained(tmp_path)
    model = zoo.load(tmp_path)
    assert model.method.name == name
    for side in ("right", "left"):
        assert difference(model, expected, side) < TOLERANCE
    assert from_dict(type(model.method), to_dict(model.method)) == model.method


def test_the_cap_is_met_by_the_prompts(tmp_path):
    """Otherwise the variants above would show nothing of it."""
    reference("llava-onevision", vision_aspect_ratio="anyres_max_2").save_pretrained(tmp_path / "capped")
    reference("llava-onevision").save_pretrained(tmp_path / "free")
    counts = [zoo.load(tmp_path / name).num_image_tokens((84, 84)) for name in ("capped", "free")]
    assert counts[0] < counts[1]


@pytest.mark.parametrize("name", CLASSES)
@torch.no_grad()
def test_greedy_continuations_are_equal(name, tmp_path):
    expected = reference(name)
    expected.save_pretrained(tmp_path)
    model = zoo.load(tmp_path)
    batch, inputs = inputs_of_reference(examples(model), "left")
    theirs = expected.generate(**inputs, do_sample=False, max_new_tokens=6, eos_token_id=2, pad_token_id=0)
    new = [row[: row.index(2)] if 2 in row else row for row in theirs[:, batch.ids.shape[1] :].tolist()]
    ours = model.generate(batch, max_new_tokens=6, stop_ids=[2])
    assert ours == new and len({tuple(row) for row in ours}) > 2


@pytest.mark.parametrize("name", CLASSES)
def test_conversion_is_lossless_both_ways(name, tmp_path):
    expected = reference(name)
    layout = f"{name}-hf"
    state = {key: value.to(torch.bfloat16) for key, value in expected.state_dict().items()}
    hub = {hub_key(key): value for key, value in state.items()}
    assert "image_newline" in hub and "model.image_newline" in state
    assert detect(expected.config.to_dict(), hub.keys()).name == layout
    canonical = convert(hub, layout, "to_canonical")
    back = convert(canonical, layout, "from_canonical")
    assert back.keys() == hub.keys() and all(back[key] is hub[key] for key in hub)
    expected.save_pretrained(tmp_path)
    assert canonical.keys() == zoo.load(tmp_path).state_dict().keys()
    both = {key.replace("model.vision_tower.", "model.vision_tower.vision_model."): state[key] for key in state}
    for other in (state, both):
        again = convert(other, layout, "to_canonical")
        assert again.keys() == canonical.keys() and all(torch.equal(again[key], canonical[key]) for key in again)


@pytest.mark.parametrize("name", CLASSES)
def test_published_sizes_have_every_key_of_the_class(name):
    """The class at its defaults, which are the published sizes, on the meta device."""
    config_class, model_class, *_ = CLASSES[name]
    language_model = get_method(name).language_model
    fields = dict(KNOWN[language_model.id]["architecture"])
    text = AutoConfig.for_model(fields.pop("model_type"), **fields)
    with torch.device("meta"):
        theirs = model_class(config_class(text_config=text))
    released = convert(theirs.state_dict(), f"{name}-hf", "to_canonical")
    ours = build_on_meta(get_method(name)).state_dict()
    # The published SigLIP of OneVision has lost its last block and its head, which ours, of the hub, still has.
    lost = ("encoder.model.encoder.layers.26.", "encoder.model.head.")
    assert released.keys() == {key for key in ours if not (name == "llava-onevision" and key.startswith(lost))}
    assert all(released[key].shape == ours[key].shape for key in released)


def original(folder, *, tower_inside=True, grids=((28, 56), (56, 28), (56, 56), (84, 28), (28, 84)), **fields):
    """A checkpoint of the original code: pairs are (width, height), so that transformers' are reversed."""
    expected = reference("llava-next", image_grid_pinpoints=[[height, width] for width, height in grids])
    state = original_state(expected)
    state["model.image_newline"] = expected.model.image_newline.detach().clone()
    if tower_inside:
        for key, value in expected.model.vision_tower.state_dict().items():
            state[f"model.vision_tower.vision_tower.vision_model.{key}"] = value.clone()
    fields = {
        "image_aspect_ratio": "anyres",
        "image_grid_pinpoints": [list(pair) for pair in grids],
        "mm_patch_merge_type": "spatial_unpad",
        "model_type": "llava_llama",
        **fields,
    }
    return expected, write(folder, expected, state, tower=None if tower_inside else True, **fields), state


@pytest.mark.parametrize("tower_inside", [True, False])
def test_the_original_release(tower_inside, tmp_path):
    expected, folder, state = original(tmp_path / "x", tower_inside=tower_inside)
    model = zoo.load(folder)
    assert model.method.name == "llava-next" and model.method.encoder.tiles.grids[0] == (2, 1)
    # An image inside one tile takes the first of two equal grids.
    assert model.encoder.tile_transform.grid((20, 20)).rows == 2
    for side in ("right", "left"):
        assert difference(model, expected, side) < TOLERANCE
    back = convert(model.state_dict(), "llava-next-original", "from_canonical")
    state = {key: value for key, value in state.items() if "inv_freq" not in key}
    assert back.keys() >= state.keys() and all(torch.equal(back[key], state[key]) for key in state)


def test_the_original_cuts_without_rounding(tmp_path):
    _, folder, _ = original(tmp_path / "original")
    reference("llava-next").save_pretrained(tmp_path / "hf")
    assert zoo.load(folder).connector.config.unpad_digits is None
    assert zoo.load(tmp_path / "hf").connector.config.unpad_digits == 7


def refusal(folder):
    with pytest.raises(ZooError) as caught:
        load_released(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(folder, **fields):
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("llava-next", {"image_grid_pinpoints": [[28, 55]]}, "image_grid_pinpoints"),
        ("llava-next", {"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy"),
        ("llava-next-video", {"spatial_pool_mode": "conv"}, "spatial_pool_mode 'conv'"),
        ("llava-next-video", {"spatial_pool_stride": 4}, "spatial_pool_stride 4"),
        ("llava-onevision", {"vision_aspect_ratio": "anyres"}, "vision_aspect_ratio 'anyres'"),
        ("llava-onevision", {"vision_feature_select_strategy": "default"}, "vision_feature_select_strategy"),
    ],
)
def test_what_the_method_has_no_place_for_is_refused(name, fields, said, tmp_path):
    reference(name).save_pretrained(tmp_path)
    assert said in refusal(changed(tmp_path, **fields))


def test_later_releases_of_the_original_code_are_told_apart(tmp_path):
    _, folder, _ = original(tmp_path / "x")
    assert "image_aspect_ratio is 'anyres_max_9'" in refusal(changed(folder, image_aspect_ratio="anyres_max_9"))
    changed(folder, image_aspect_ratio="anyres")
    assert "mm_resampler_type is 'spatial_pool'" in refusal(changed(folder, mm_resampler_type="spatial_pool"))
    changed(folder, mm_resampler_type=None)
    assert "image_grid_pinpoints" in refusal(changed(folder, image_grid_pinpoints=[[30, 56]]))


def test_a_missing_newline_is_named(tmp_path):
    reference("llava-next").save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({key: value for key, value in state.items() if "newline" not in key}, tmp_path / "model.safetensors")
    assert "image_newline" in refusal(tmp_path)
