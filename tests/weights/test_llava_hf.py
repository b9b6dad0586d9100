"""Checkpoints of transformers' LlavaForConditionalGeneration: loaded with equal logits, and written back."""

import dataclasses
import json

import pytest
import torch
from llava_reference import IMAGE_TOKEN, difference, reference
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration

import zoo
from zoo.errors import ZooError
from zoo.weights import convert, export, load_released

TOLERANCE = 1e-5
VARIANTS = {
    "llama": {},
    "gqa": {"text_fields": {"num_key_value_heads": 2}},
    "head_dim": {"text_fields": {"head_dim": 12}},
    "qwen2": {"text": "qwen2"},
    "mistral": {"text": "mistral", "text_fields": {"num_key_value_heads": 2, "sliding_window": 6}},
    "attention_bias": {"text_fields": {"attention_bias": True, "mlp_bias": True}},
    "hyper_parameters": {
        "text_fields": {"rms_norm_eps": 1e-2, "rope_parameters": {"rope_type": "default", "rope_theta": 200.0}},
        "vision_fields": {"layer_norm_eps": 1e-1, "hidden_act": "gelu"},
        "projector_hidden_act": "relu",
    },
    "rope_scaling": {
        "text_fields": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}},
    },
    "tied": {"text": "qwen2", "text_fields": {"tie_word_embeddings": True}},
    "last_layer": {"vision_feature_layer": -1},
    "first_layer": {"vision_feature_layer": 1},
    "several_layers": {"vision_feature_layer": [-1, 1, -3]},
    "list_of_one_layer": {"vision_feature_layer": [-2]},
    "full": {"vision_feature_select_strategy": "full"},
    "full_several_layers": {"vision_feature_select_strategy": "full", "vision_feature_layer": [1, -2]},
    "siglip": {"vision": "siglip", "vision_feature_select_strategy": "full"},
    "siglip_without_head": {
        "vision": "siglip",
        "vision_fields": {"vision_use_head": False},
        "vision_feature_select_strategy": "full",
    },
    "projector_without_bias": {"multimodal_projector_bias": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_loads_and_is_exported_with_equal_logits(variant, tmp_path):
    expected = reference(**VARIANTS[variant])
    expected.save_pretrained(tmp_path / "released")
    model = zoo.load(tmp_path / "released")
    assert difference(model, expected, side="right") < TOLERANCE
    assert difference(model, expected, side="left") < TOLERANCE
    export(model, tmp_path / "exported")
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "exported").eval()
    assert again.config.image_token_id == IMAGE_TOKEN
    assert difference(model, again, side="left") < TOLERANCE
    written = load_file(tmp_path / "exported" / "model.safetensors")
    for key, tensor in convert(
        load_file(tmp_path / "released" / "model.safetensors"), "llava-hf", "to_canonical"
    ).items():
        assert torch.equal(convert(written, "llava-hf", "to_canonical")[key], tensor)


def rewrite(folder, tensors=None, **fields):
    """Change a saved checkpoint's weights and top-level config fields; None removes a field."""
    if tensors is not None:
        save_file({key: value.clone() for key, value in tensors.items()}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text()) | fields
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))


def hub_key(key):
    """A name in memory as the files of transformers 4 have it."""
    if key.startswith("lm_head."):
        return f"language_model.{key}"
    key = key.removeprefix("model.")
    for part, inner in (("language_model.", "model."), ("vision_tower.", "vision_model.")):
        if key.startswith(part):
            return part + inner + key.removeprefix(part)
    return key


@pytest.mark.parametrize("spelling", ["memory", "hub", "bin", "shards"])
def test_every_spelling_and_kind_of_file_loads(spelling, tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path)
    state = {key: value.clone() for key, value in expected.state_dict().items()}
    if spelling != "memory":
        state = {hub_key(key): value for key, value in state.items()}
        state["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(5)[None]
        state["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.rand(4)
    (tmp_path / "model.safetensors").unlink()
    if spelling == "bin":
        torch.save(state, tmp_path / "pytorch_model.bin")
    elif spelling == "shards":
        names = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(state)}
        for name in set(names.values()):
            save_file({key: state[key] for key in state if names[key] == name}, tmp_path / name)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    else:
        save_file(state, tmp_path / "model.safetensors")
    assert difference(zoo.load(tmp_path), expected) < TOLERANCE


def test_config_in_the_style_of_the_hub(tmp_path):
    expected = reference(
        text_fields={"rope_parameters": {"rope_type": "default", "rope_theta": 321.0}},
        vision_fields={"layer_norm_eps": 1e-2},
    )
    expected.save_pretrained(tmp_path)
    text = {
        "model_type": "llama",
        "_name_or_path": "lmsys/vicuna-7b-v1.5",
        "architectures": ["LlamaForCausalLM"],
        "torch_dtype": "float16",
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "rope_theta": 321.0,
    }
    vision = {"model_type": "clip_vision_model", "vocab_size": 32000, "projection_dim": 768, "layer_norm_eps": 1e-2}
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "ignore_index": -100,
        "image_token_index": IMAGE_TOKEN,
        "pad_token_id": 98,
        "projector_hidden_act": "gelu",
        "text_config": text,
        "torch_dtype": "float16",
        "transformers_version": "4.36.0.dev0",
        "vision_config": vision | {key: getattr(expected.config.vision_config, key) for key in VISION_SIZES},
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "vocab_size": 100,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = zoo.load(tmp_path)
    assert difference(model, expected) < TOLERANCE
    assert model.method.language_model.architecture["rope_parameters"]["rope_theta"] == 321.0


VISION_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "image_size",
    "patch_size",
)


def test_conversion_is_lossless_both_ways():
    state = {key: value.to(torch.bfloat16) for key, value in reference().state_dict().items()}
    hub = {hub_key(key): value for key, value in state.items()}
    canonical = convert(hub, "llava-hf", "to_canonical")
    assert {key.split(".")[0] for key in canonical} == {"encoder", "connector", "language_model"}
    back = convert(canonical, "llava-hf", "from_canonical")
    assert back.keys() == hub.keys() and all(back[key] is hub[key] for key in hub)
    memory = convert(state, "llava-hf", "to_canonical")
    assert memory.keys() == canonical.keys() and all(torch.equal(memory[key], canonical[key]) for key in memory)


def test_canonical_names_are_those_of_the_model(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path)
    assert convert(expected.state_dict(), "llava-hf", "to_canonical").keys() == zoo.load(tmp_path).state_dict().keys()


def test_a_head_of_its_own_beats_a_config_that_says_tied(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path)
    rewrite(tmp_path, tie_word_embeddings=True)
    assert difference(zoo.load(tmp_path), expected) < TOLERANCE


def test_dtype_is_asked_for(tmp_path):
    reference().to(torch.bfloat16).save_pretrained(tmp_path)
    assert {p.dtype for p in zoo.load(tmp_path).parameters()} == {torch.float32}
    assert {p.dtype for p in zoo.load(tmp_path, dtype=torch.float16).parameters()} == {torch.float16}


def test_a_model_without_placeholder_token_is_exported_with_one_more(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path / "released")
    model = load_released(tmp_path / "released")
    del model.language_model.model.config.image_token_id
    export(model, tmp_path / "exported")
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "exported").eval()
    assert again.config.image_token_id == 100 == again.config.text_config.vocab_size - 1
    assert difference(model, again, num_columns=100) < TOLERANCE


def test_what_the_class_has_no_place_for_is_not_exported(released, tmp_path):
    def refused(model, layout="llava-hf"):
        with pytest.raises(ZooError) as caught:
            export(model, tmp_path, layout)
        assert not list(tmp_path.iterdir())
        return str(caught.value)

    model = load_released(released)
    assert "llava-original" in refused(model, "llava-original")
    assert "Did you mean 'llava-hf'" in refused(model, "llava-h")
    model.connector.layers.append(torch.nn.Linear(32, 32))
    assert "two linear layers" in refused(model)
    del model.connector.layers[2]
    model.encoder.config = dataclasses.replace(model.encoder.config, post_norm=True)
    assert "post_norm" in refused(model)


def test_one_linear_layer_is_exported_as_two(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path / "released")
    model = load_released(tmp_path / "released")
    del model.connector.layers[1]
    export(model, tmp_path / "exported")
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "exported").eval()
    assert difference(model, again) < TOLERANCE


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    reference().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(released, tmp_path):
    for file in released.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def refusal(folder, **options):
    with pytest.raises(ZooError) as caught:
        load_released(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


MISSING = (
    "multi_modal_projector.linear_1.bias",
    "language_model.lm_head.weight",
    "language_model.model.layers.1.self_attn.q_proj.weight",
    "vision_tower.vision_model.encoder.layers.2.mlp.fc1.bias",
)


@pytest.mark.parametrize("key", MISSING)
def test_a_missing_key_is_named(copy, key):
    state = {hub_key(name): value for name, value in reference().state_dict().items()}
    del state[key]
    rewrite(copy, state)
    assert key in refusal(copy)


@pytest.mark.parametrize(
    "key",
    [
        "language_model.model.layers.2.input_layernorm.weight",
        "multi_modal_projector.linear_2.scale",
        "model.vision_tower.extra",
        "adapter.weight",
    ],
)
def test_an_extra_key_is_named(copy, key):
    rewrite(copy, load_file(copy / "model.safetensors") | {key: torch.rand(3)})
    assert key in refusal(copy)


def test_a_wrong_shape_is_named_with_both_shapes(copy):
    state = {hub_key(name): value for name, value in reference().state_dict().items()}
    key = "multi_modal_projector.linear_1.weight"
    rewrite(copy, state | {key: torch.rand(24, 32)})
    message = refusal(copy)
    assert key in message and "(24, 32)" in message and "(32, 24)" in message


def test_two_spellings_of_one_weight_are_refused(copy):
    rewrite(copy, load_file(copy / "model.safetensors") | {"model.multi_modal_projector.linear_1.bias": torch.rand(32)})
    assert "two spellings" in refusal(copy)


def test_a_missing_tower_is_not_left_random(copy):
    state = load_file(copy / "model.safetensors")
    rewrite(copy, {key: value for key, value in state.items() if "vision_tower" not in key})
    assert "vision_tower" in refusal(copy)


def test_unreadable_checkpoints_are_refused_by_file(copy):
    assert "model_type 'llava_x'" in refusal_after(copy, lambda: rewrite(copy, model_type="llava_x"))
    assert "config.json" in refusal_after(
        copy, lambda: rewrite(copy, model_type="llava", text_config={"model_type": "x"})
    )
    assert "config.json" in refusal_after(copy, lambda: (copy / "config.json").write_text("{"))
    assert "config.json" in refusal_after(copy, (copy / "config.json").unlink)


def test_damaged_weights_are_refused_by_file(copy):
    whole = (copy / "model.safetensors").read_bytes()
    assert "model.safetensors" in refusal_after(copy, lambda: (copy / "model.safetensors").write_bytes(whole[:-100]))
    (copy / "model.safetensors").unlink()
    assert "no weights" in refusal(copy)
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "lost.safetensors"}}))
    assert "lost.safetensors" in refusal(copy)
    index.write_text(json.dumps({"weight_map": {"a": "../lost.safetensors"}}))
    assert "outside" in refusal(copy)
    index.unlink()
    (copy / "adapter_model.safetensors").write_bytes(whole)
    assert "LoRA" in refusal(copy)


def refusal_after(folder, change):
    change()
    return refusal(folder)


def test_siglip_with_a_dropped_patch_is_refused(tmp_path):
    reference(vision="siglip").save_pretrained(tmp_path)
    assert "vision_feature_select_strategy" in refusal(tmp_path)
