"""Checkpoints of the original LLaVA code: the same weights as a model of transformers, under other names."""

import dataclasses
import json

import pytest
import torch
from llava_reference import difference, reference
from safetensors.torch import save_file
from transformers import CLIPVisionModel, LlamaConfig, LlamaForCausalLM

import zoo
from zoo.connectors import Linear
from zoo.encoders import KNOWN_ENCODERS
from zoo.errors import ZooError
from zoo.language.known import KNOWN
from zoo.weights import LLAVA_ORIGINAL, convert, load_released

TOLERANCE = 1e-5
TEXT_FIELDS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def original_state(model, projector=("0", "2")):
    """The weights of a model of transformers under the original's names, the tower left out."""
    state = {}
    for key, value in model.state_dict().items():
        if key.startswith("model.language_model."):
            state["model." + key.removeprefix("model.language_model.")] = value.clone()
        elif key.startswith("lm_head."):
            state[key] = value.clone()
    first, second = model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2
    for place, layer in zip(projector, (first, second)):
        for name, value in layer.named_parameters():
            key = f"model.mm_projector.{place}.{name}" if place else f"model.mm_projector.{name}"
            state[key] = value.detach().clone()
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.rand(4)
    return state


def write(folder, model, state, *, tower=True, **fields):
    """A checkpoint in the original's format with its vision tower beside it."""
    folder.mkdir(exist_ok=True)
    text = model.config.text_config
    config = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "torch_dtype": "float16",
        "hidden_act": "silu",
        "rms_norm_eps": text.rms_norm_eps,
        "rope_theta": text.rope_parameters["rope_theta"],
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "image_aspect_ratio": "pad",
        "mm_hidden_size": 24,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "tower",
        "use_mm_proj": True,
        **{key: getattr(text, key) for key in TEXT_FIELDS},
        **fields,
    }
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
    vision = CLIPVisionModel(model.config.vision_config)
    values = vision.state_dict() if tower is None else model.model.vision_tower.state_dict()
    vision.load_state_dict(values)
    vision.save_pretrained(folder / "tower")
    return folder


def refusal(folder, **options):
    with pytest.raises(ZooError) as caught:
        load_released(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tower_beside_the_checkpoint(tmp_path):
    expected = reference(
        text_fields={"rms_norm_eps": 1e-3, "rope_parameters": {"rope_type": "default", "rope_theta": 300.0}}
    )
    model = zoo.load(write(tmp_path / "x", expected, original_state(expected)))
    assert model.method.name == "llava-1.5" and model.encoder.transform.resize == "pad"
    assert difference(model, expected, side="right") < TOLERANCE
    assert difference(model, expected, side="left") < TOLERANCE


@pytest.mark.parametrize(
    "prefix", ["model.vision_tower.vision_tower.vision_model.", "model.vision_tower.vision_tower."]
)
def test_a_tower_in_the_checkpoint_wins_over_the_one_beside_it(tmp_path, prefix):
    expected = reference()
    state = original_state(expected)
    for key, value in expected.model.vision_tower.state_dict().items():
        state[prefix + key] = value.clone()
    folder = write(tmp_path / "x", expected, state, tower=None)
    assert difference(zoo.load(folder), expected) < TOLERANCE


@pytest.mark.parametrize(
    "fields,reference_fields",
    [
        ({"mm_vision_select_layer": -1}, {"vision_feature_layer": -1}),
        ({"mm_vision_select_feature": "cls_patch"}, {"vision_feature_select_strategy": "full"}),
        ({"mm_vision_select_feature": None, "model_type": "llava_llama"}, {}),
    ],
)
def test_feature_selection(tmp_path, fields, reference_fields):
    expected = reference(**reference_fields)
    model = zoo.load(write(tmp_path / "x", expected, original_state(expected), **fields))
    assert difference(model, expected) < TOLERANCE


def test_a_single_linear_layer_is_llava(tmp_path):
    expected = reference(projector_hidden_act="linear")
    with torch.no_grad():
        expected.model.multi_modal_projector.linear_2.weight.copy_(torch.eye(32))
        expected.model.multi_modal_projector.linear_2.bias.zero_()
    state = original_state(expected, projector=("",))
    folder = write(tmp_path / "x", expected, state, mm_projector_type=None, image_aspect_ratio=None)
    model = zoo.load(folder)
    assert model.method.name == "llava" and isinstance(model.method.connector, Linear)
    assert model.encoder.transform.resize == "crop"
    assert difference(model, expected) < TOLERANCE
    del state["model.layers.0.self_attn.rotary_emb.inv_freq"]
    again = convert(convert(state, "llava-original", "to_canonical"), "llava-original", "from_canonical")
    assert again.keys() == state.keys() and all(again[key] is state[key] for key in state)


def test_conversion_is_lossless_both_ways():
    expected = reference()
    state = original_state(expected)
    del state["model.layers.0.self_attn.rotary_emb.inv_freq"]
    for key, value in expected.model.vision_tower.state_dict().items():
        state[f"model.vision_tower.vision_tower.vision_model.{key}"] = value
    canonical = convert(state, "llava-original", "to_canonical")
    assert canonical.keys() == convert(expected.state_dict(), "llava-hf", "to_canonical").keys()
    back = convert(canonical, "llava-original", "from_canonical")
    assert back.keys() == state.keys() and all(back[key] is state[key] for key in state)


def test_missing_and_extra_keys_are_named(tmp_path):
    expected = reference()
    state = original_state(expected)
    missing = "model.layers.1.mlp.up_proj.weight"
    folder = write(tmp_path / "a", expected, {key: value for key, value in state.items() if key != missing})
    assert missing in refusal(folder)
    extra = "model.mm_projector.4.weight"
    assert extra in refusal(write(tmp_path / "b", expected, state | {extra: torch.rand(32, 32)}))
    assert "model.mm_projector.2" in refusal(write(tmp_path / "c", expected, state, mm_projector_type="mlp1x_gelu"))


def test_what_is_not_llava_1_5_is_refused(tmp_path):
    expected = reference()
    state = original_state(expected)
    assert "mm_projector_type" in refusal(write(tmp_path / "a", expected, state, mm_projector_type="identity"))
    assert "image_aspect_ratio" in refusal(write(tmp_path / "b", expected, state, image_aspect_ratio="anyres"))
    assert "model_type" in refusal(write(tmp_path / "c", expected, state, model_type="llava_mpt"))
    assert "mm_vision_tower" in refusal(write(tmp_path / "d", expected, state, mm_vision_tower=None))
    newline = state | {"model.image_newline": torch.rand(32)}
    assert "image_aspect_ratio" in refusal(write(tmp_path / "e", expected, newline))


def test_a_projector_needs_its_base(tmp_path):
    expected = reference()
    state = original_state(expected)
    projector = {key: value for key, value in state.items() if "mm_projector" in key}
    folder = write(tmp_path / "x", expected, projector, _name_or_path="lmsys/vicuna-7b-v1.5")
    (folder / "model.safetensors").unlink()
    torch.save(projector, folder / "mm_projector.bin")
    assert "'lmsys/vicuna-7b-v1.5'" in refusal(folder)

    base = LlamaForCausalLM(LlamaConfig(**expected.config.text_config.to_dict()))
    weights = expected.state_dict()
    names = {key: key.replace("model.", "model.language_model.", 1) for key in base.state_dict()}
    base.load_state_dict({key: weights[names[key]] for key in names})
    base.save_pretrained(tmp_path / "base")
    tokenizer(tmp_path / "base")
    model = load_released(folder, base=str(tmp_path / "base"))
    assert difference(model, expected) < TOLERANCE

    torch.save(projector | {"model.mm_projector.2.bias": torch.rand(7)}, folder / "mm_projector.bin")
    assert "model.mm_projector.2.bias" in refusal(folder, base=str(tmp_path / "base"))
    (folder / "config.json").unlink()
    assert "config.json" in refusal(folder)


def tokenizer(folder):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"w{i}": i for i in range(100)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w0", eos_token="w2").save_pretrained(folder)


def test_tokenizer_files_are_used(tmp_path):
    expected = reference()
    folder = write(tmp_path / "x", expected, original_state(expected))
    with pytest.raises(ZooError, match="without a tokenizer"):
        _ = zoo.load(folder).language_model.tokenizer
    tokenizer(folder)
    assert zoo.load(folder).language_model.tokenizer.convert_tokens_to_ids("w5") == 5


def test_the_config_can_be_saved_with_a_run(tmp_path):
    from zoo.config import from_dict, to_dict

    expected = reference()
    method = zoo.load(write(tmp_path / "x", expected, original_state(expected))).method
    assert dataclasses.asdict(from_dict(type(method), to_dict(method))) == dataclasses.asdict(method)


# The fields of liuhaotian/llava-v1.5-7b's config.json that say what the model is.
LLAVA_7B = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "freeze_mm_mlp_adapter": False,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "image_aspect_ratio": "pad",
    "intermediate_size": 11008,
    "max_length": 4096,
    "max_position_embeddings": 4096,
    "mm_hidden_size": 1024,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "model_type": "llava",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_mm_proj": True,
    "vocab_size": 32000,
}


def test_the_released_config_is_the_registered_method(tmp_path):
    method = LLAVA_ORIGINAL.method_from_config(LLAVA_7B, tmp_path)
    registered = zoo.registry.get_method("llava-1.5")
    assert method.encoder == registered.encoder and method.connector == registered.connector
    assert method.encoder.id in KNOWN_ENCODERS
    known = KNOWN[registered.language_model.id]["architecture"]
    assert {key: method.language_model.architecture[key] for key in known} == known


def test_the_tower_can_be_mapped_to_a_folder(tmp_path, monkeypatch):
    (tmp_path / "clip").mkdir()
    (tmp_path / "paths.yaml").write_text(f"openai/clip-vit-large-patch14-336: {tmp_path / 'clip'}\n")
    monkeypatch.setenv("ZOO_PATHS", str(tmp_path / "paths.yaml"))
    assert LLAVA_ORIGINAL.method_from_config(LLAVA_7B, tmp_path).encoder.id == str(tmp_path / "clip")


def test_image_marks_that_the_template_does_not_write_are_said(tmp_path):
    with pytest.warns(UserWarning, match="mm_use_im_start_end"):
        LLAVA_ORIGINAL.method_from_config(LLAVA_7B | {"mm_use_im_start_end": True}, tmp_path)
