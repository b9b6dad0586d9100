"""ViP-LLaVA: checkpoints of transformers' class and of the original code load with equal logits."""

import json

import pytest
import torch
from llava_reference import IMAGE_TOKEN, TEXT, VISION, difference
from safetensors.torch import load_file, save_file
from test_llava_hf import hub_key
from test_llava_original import write
from transformers import CLIPVisionConfig, LlamaConfig, VipLlavaConfig, VipLlavaForConditionalGeneration

import zoo
from zoo.errors import ZooError
from zoo.factory import build_on_meta
from zoo.registry import get_method
from zoo.weights import convert, detect, load_released

TOLERANCE = 1e-4
LAYERS = [-2, -3, 1]


def reference(num_blocks=5, **fields):
    config = VipLlavaConfig(
        text_config=LlamaConfig(**TEXT),
        vision_config=CLIPVisionConfig(**VISION | {"num_hidden_layers": num_blocks}),
        image_token_index=IMAGE_TOKEN,
        **{"vision_feature_layer": LAYERS} | fields,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VipLlavaForConditionalGeneration(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


VARIANTS = {
    "published": {},
    "one_layer": {"vision_feature_layer": -2},
    "epsilon": {"projector_layernorm_eps": 0.1, "projector_hidden_act": "relu"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_loads_with_equal_logits(variant, tmp_path):
    expected = reference(**VARIANTS[variant])
    expected.save_pretrained(tmp_path)
    model = zoo.load(tmp_path)
    assert model.method.name == "vip-llava"
    for side in ("right", "left"):
        assert difference(model, expected, side=side) < TOLERANCE


def test_the_field_of_older_configs(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_feature_layers"] = config.pop("vision_feature_layer")
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = zoo.load(tmp_path)
    assert model.method.encoder.layers == tuple(LAYERS) and difference(model, expected) < TOLERANCE


def test_conversion_is_lossless_both_ways(tmp_path):
    expected = reference()
    hub = {hub_key(key): value for key, value in expected.state_dict().items()}
    assert detect(expected.config.to_dict(), hub.keys()).name == "vip-llava-hf"
    canonical = convert(hub, "vip-llava-hf", "to_canonical")
    back = convert(canonical, "vip-llava-hf", "from_canonical")
    assert back.keys() == hub.keys() and all(back[key] is hub[key] for key in hub)
    expected.save_pretrained(tmp_path)
    assert canonical.keys() == zoo.load(tmp_path).state_dict().keys()
    again = convert(expected.state_dict(), "vip-llava-hf", "to_canonical")
    assert again.keys() == canonical.keys() and all(torch.equal(again[key], canonical[key]) for key in again)


def test_published_sizes_have_every_key_of_the_class():
    with torch.device("meta"):
        text = LlamaConfig(vocab_size=32000, rms_norm_eps=1e-5)
        theirs = VipLlavaForConditionalGeneration(VipLlavaConfig(text_config=text))
    released = convert(theirs.state_dict(), "vip-llava-hf", "to_canonical")
    ours = build_on_meta(get_method("vip-llava")).state_dict()
    assert {key: value.shape for key, value in released.items()} == {key: value.shape for key, value in ours.items()}


ORIGINAL_NAMES = (
    ("model.language_model.", "model."),
    ("model.multi_modal_projector.projector_layernorm.", "model.mm_projector.clip_layernorm."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.final_linear.0."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.final_linear.2."),
    ("lm_head.", "lm_head."),
)


def test_the_original_release_reads_the_published_layers(tmp_path):
    published = list(get_method("vip-llava").encoder.layers)
    expected = reference(num_blocks=11, vision_feature_layer=published)
    state = {}
    for key, value in expected.state_dict().items():
        for theirs, original in ORIGINAL_NAMES:
            if key.startswith(theirs):
                state[original + key.removeprefix(theirs)] = value.clone()
    # Its config says what LLaVA-1.5's says; the layers are in the code.
    folder = write(tmp_path / "x", expected, state)
    model = zoo.load(folder)
    assert model.method.name == "vip-llava" and model.encoder.layers == tuple(published)
    assert difference(model, expected) < TOLERANCE
    back = convert(model.state_dict(), "vip-llava-original", "from_canonical")
    assert back.keys() >= state.keys() and all(torch.equal(back[key], state[key]) for key in state)


def test_a_missing_norm_is_named(tmp_path):
    reference().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(
        {key: value for key, value in state.items() if "layernorm.bias" not in key}, tmp_path / "model.safetensors"
    )
    with pytest.raises(ZooError, match="projector_layernorm"):
        load_released(tmp_path)
