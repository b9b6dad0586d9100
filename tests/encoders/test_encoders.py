"""Vision encoders: what they select is what transformers computes, and what they load is what was saved."""

import itertools
import json

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    CLIPConfig,
    CLIPModel,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    SiglipConfig,
    SiglipModel,
)

from zoo import paths
from zoo.data import transforms
from zoo.encoders import KNOWN_ENCODERS, EncoderConfig, build_encoder
from zoo.errors import ZooError

VIT = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
ARCHITECTURES = {
    "clip": {"model_type": "clip_vision_model", **VIT},
    "siglip": {"model_type": "siglip_vision_model", **VIT},
    "dinov2": {"model_type": "dinov2", **{key: value for key, value in VIT.items() if key != "intermediate_size"}},
    "eva": {"model_type": "blip_2_vision_model", **VIT},
}
# transformers' name of the final norm, and its number of tokens before the patches.
NORMS = {"clip": "post_layernorm", "siglip": "post_layernorm", "dinov2": "layernorm", "eva": "post_layernorm"}
CLASS_TOKENS = {"clip": 1, "siglip": 0, "dinov2": 1, "eva": 1}
FAMILIES = sorted(ARCHITECTURES)


def fill(module, seed=0, std=0.2):
    """Every parameter from a seed: the default initialisation has zeros and ones that hide errors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return module


def build(family="clip", attention="sdpa", **options):
    return fill(build_encoder(EncoderConfig(architecture=ARCHITECTURES[family], **options), attention=attention))


def pixels(num_media=2, size=28, seed=1):
    return torch.randn(num_media, 3, size, size, generator=torch.Generator().manual_seed(seed))


def refusal(config, **options):
    with pytest.raises(ZooError) as caught:
        build_encoder(config, attention="sdpa", **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [-4, -2, -1, 0, 1, 3])
def test_layers_are_transformers_hidden_states(family, layer):
    encoder = build(family, layer=layer)
    states = encoder.model(pixels(), output_hidden_states=True).hidden_states
    assert len(states) == 4
    features = encoder(pixels())
    skipped = CLASS_TOKENS[family]
    assert torch.equal(features.tokens, states[layer][:, skipped:])
    assert features.tokens.shape == (2, encoder.num_tokens, encoder.dim) == (2, 4, 24)
    assert features.grid == encoder.grid == (2, 2)
    if skipped:
        assert torch.equal(features.class_token, states[layer][:, 0])
    else:
        assert features.class_token is None


def test_the_last_layer_is_the_output_of_the_last_block():
    encoder = build("siglip")
    seen = []
    encoder.model.encoder.layers[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    tokens = encoder(pixels()).tokens
    assert torch.equal(tokens, seen[0])
    assert not torch.equal(tokens, encoder.model(pixels()).last_hidden_state)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_final_norm_is_applied_on_request(family):
    plain, normed = build(family, layer=-1), build(family, layer=-1, post_norm=True)
    raw = plain(pixels()).tokens
    expected = getattr(normed.model, NORMS[family])(raw)
    assert torch.allclose(normed(pixels()).tokens, expected, atol=1e-6)
    assert not torch.allclose(raw, expected, atol=1e-2)
    if family != "clip":
        last = normed.model(pixels()).last_hidden_state[:, CLASS_TOKENS[family] :]
        assert torch.allclose(normed(pixels()).tokens, last, atol=1e-6)


@pytest.mark.parametrize("family", ["clip", "dinov2", "eva"])
def test_the_class_token_is_kept_first(family):
    kept, dropped = build(family, class_token=True), build(family)
    assert kept.num_tokens == dropped.num_tokens + 1 == 5
    tokens = kept(pixels()).tokens
    assert tokens.shape == (2, 5, 24)
    assert torch.equal(tokens[:, 1:], dropped(pixels()).tokens)
    assert torch.equal(tokens[:, 0], dropped(pixels()).class_token)


def test_several_layers_are_concatenated():
    encoder = build("clip", layers=(3, 1), layer=-2)
    features = encoder(pixels())
    assert encoder.dim == 48 and features.tokens.shape == (2, 4, 48) and features.class_token.shape == (2, 48)
    parts = [build("clip", layer=layer)(pixels()).tokens for layer in (3, 1)]
    assert torch.equal(features.tokens, torch.cat(parts, dim=-1))


@pytest.mark.parametrize("family", FAMILIES)
def test_another_image_size_interpolates_positions(family):
    encoder = build(family, image_size=42)
    assert encoder.grid == (3, 3) and encoder.num_tokens == 9
    tokens = encoder(pixels(size=42)).tokens
    assert tokens.shape == (2, 9, 24)
    options = {} if family == "dinov2" else {"interpolate_pos_encoding": True}
    expected = encoder.model(pixels(size=42), output_hidden_states=True, **options).hidden_states[-1]
    assert torch.equal(tokens, expected[:, CLASS_TOKENS[family] :])
    with pytest.raises(ZooError, match="expected \\(media, \\*\\(3, 42, 42\\)\\)"):
        encoder(pixels(size=28))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_media_give_no_tokens_and_types_follow_the_model(family):
    encoder = build(family)
    assert encoder(pixels(num_media=0)).tokens.shape == (0, 4, 24)
    half = encoder.to(torch.bfloat16)
    assert half(pixels()).tokens.dtype == torch.bfloat16


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_flow_unless_the_caller_stops_them(family):
    encoder = build(family, layer=-2)
    encoder(pixels()).tokens.sum().backward()
    patch = next(parameter for name, parameter in encoder.named_parameters() if "patch_embed" in name)
    assert patch.grad is not None and patch.grad.abs().sum() > 0
    with torch.no_grad():
        assert not encoder(pixels()).tokens.requires_grad


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_activations_give_the_same_gradients(family):
    gradients = []
    for checkpointed in (False, True):
        encoder = build(family, layers=(1, -2)).train()
        if checkpointed:
            encoder.model.gradient_checkpointing_enable()
        encoder(pixels()).tokens.square().mean().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters() if p.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys() and plain
    assert all(torch.allclose(plain[name], checkpointed[name], atol=1e-6) for name in plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_towers_load_back(family, tmp_path):
    encoder = build(family, layer=-2)
    encoder.model.save_pretrained(tmp_path)
    loaded = build_encoder(EncoderConfig(id=str(tmp_path), layer=-2), attention="sdpa")
    assert torch.equal(loaded(pixels()).tokens, encoder(pixels()).tokens)
    assert not loaded.training
    random = build_encoder(EncoderConfig(id=str(tmp_path), layer=-2), pretrained=False, attention="sdpa")
    assert not torch.equal(random(pixels()).tokens, encoder(pixels()).tokens)


def whole_model(kind):
    text = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    small = {**text, "vocab_size": 60, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "clip":
        return CLIPModel(CLIPConfig(vision_config=VIT, text_config=small, projection_dim=8))
    if kind == "siglip":
        return SiglipModel(SiglipConfig(vision_config=VIT, text_config=small))
    config_class, model_class = {
        "blip-2": (Blip2Config, Blip2ForConditionalGeneration),
        "instructblip": (InstructBlipConfig, InstructBlipForConditionalGeneration),
    }[kind]
    config = config_class(
        vision_config=VIT,
        qformer_config={**text, "vocab_size": 60, "encoder_hidden_size": 24},
        text_config={
            "model_type": "opt",
            "vocab_size": 80,
            "hidden_size": 16,
            "ffn_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 16,
        },
        num_query_tokens=4,
        image_token_index=79,
    )
    return model_class(config)


@pytest.mark.parametrize("kind", ["clip", "siglip", "blip-2", "instructblip"])
def test_whole_checkpoints_give_their_vision_part(kind, tmp_path):
    whole = fill(whole_model(kind)).eval()
    whole.save_pretrained(tmp_path)
    encoder = build_encoder(EncoderConfig(id=str(tmp_path), layer=2), attention="sdpa")
    expected = whole.vision_model(pixels(), output_hidden_states=True).hidden_states[2]
    has_class_token = encoder.family.has_class_token
    assert torch.equal(encoder(pixels()).tokens, expected[:, int(has_class_token) :])
    assert not [name for name, _ in encoder.named_parameters() if "text" in name or "qformer" in name]


def test_hub_spelling_of_the_keys_loads(tmp_path):
    encoder = build("clip")
    encoder.model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    hub = {f"vision_model.{name}": weight for name, weight in weights.items() if not name.startswith("vision_model.")}
    hub = hub or weights
    # Files of 2022 carry the position indices as well.
    hub["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file(hub, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = build_encoder(EncoderConfig(id=str(tmp_path)), attention="sdpa")
    assert torch.equal(loaded(pixels()).tokens, encoder(pixels()).tokens)


def change_weights(folder, change):
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_extra_and_misshapen_weights_refuse_to_load(family, tmp_path):
    model = build(family).model
    config = EncoderConfig(id=str(tmp_path))
    victim = next(name for name in model.state_dict() if name.endswith("weight") and "norm" in name)
    tail = victim.split(".")[-2]

    def saved_name(weights):
        return next(name for name in weights if name.endswith(victim))

    model.save_pretrained(tmp_path)
    change_weights(tmp_path, lambda weights: weights.pop(saved_name(weights)))
    message = refusal(config)
    assert "missing" in message and tail in message and str(tmp_path) in message
    model.save_pretrained(tmp_path)
    change_weights(tmp_path, lambda weights: weights.update({"encoder.surplus.weight": torch.ones(3)}))
    assert "unexpected" in (message := refusal(config)) and "surplus" in message
    model.save_pretrained(tmp_path)
    change_weights(tmp_path, lambda weights: weights.update({saved_name(weights): torch.ones(3)}))
    assert "wrongly shaped" in (message := refusal(config)) and tail in message


def test_unreadable_places_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "'nobody/nothing-here'" in (message := refusal(EncoderConfig(id="nobody/nothing-here", revision="v1")))
    assert "hf download nobody/nothing-here --revision v1" in message
    assert "hf download openai/clip-vit-base-patch32" in refusal(EncoderConfig(id="clip-vit-b-32"))
    assert "cannot read" in refusal(EncoderConfig(id=str(tmp_path)))
    assert "no such folder" in refusal(EncoderConfig(id=str(tmp_path / "gone")))
    assert "'clip-vit-l-336'" in refusal(EncoderConfig(id="clip-vit-l-366"))
    (tmp_path / "config.json").write_text("{ not json")
    assert "cannot read" in refusal(EncoderConfig(id=str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "'bert'" in refusal(EncoderConfig(id=str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps(ARCHITECTURES["clip"]))
    assert "cannot read" in refusal(EncoderConfig(id=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0garbage")
    assert "cannot read" in refusal(EncoderConfig(id=str(tmp_path)))


def test_wrong_settings_are_named():
    architecture = ARCHITECTURES["clip"]
    assert "layer 4" in refusal(EncoderConfig(architecture=architecture, layer=4))
    assert "layer -5" in refusal(EncoderConfig(architecture=architecture, layers=(-1, -5)))
    assert "class token" in refusal(EncoderConfig(architecture=ARCHITECTURES["siglip"], class_token=True))
    assert "image_size 7" in refusal(EncoderConfig(architecture=architecture, image_size=7))
    assert "both" in refusal(EncoderConfig(id="clip-vit-l-336", architecture=architecture))
    assert "'hidden_size'" in refusal(EncoderConfig(architecture={"model_type": "clip_vision_model", "hiden_size": 8}))
    assert "hidden_size" in refusal(EncoderConfig(architecture={**architecture, "hidden_size": "wide"}))
    assert "'clip_vision_model'" in refusal(EncoderConfig(architecture={"model_type": "clip_vision"}))
    assert "model_type" in refusal(EncoderConfig())
    assert "resize" in refusal(EncoderConfig(architecture=architecture, resize="sqash"))


def test_shipped_weights_load_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ASSETS", tmp_path)
    encoder = build("clip")
    encoder.model.save_pretrained(tmp_path / "tiny-vit")
    loaded = build_encoder(EncoderConfig(id="zoo:tiny-vit"), attention="sdpa")
    assert torch.equal(loaded(pixels()).tokens, encoder(pixels()).tokens)
    assert "'tiny-vit'" in refusal(EncoderConfig(id="zoo:tiny-vti"))
    assert "no packaged asset" in refusal(EncoderConfig(id="zoo:../tiny-vit"))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def davit(*widths):
    """A convolution and a norm lead to each of the stages of 1, 1, 9 and 1 blocks; a block is two of attention, MLP,
    two norms and two depthwise convolutions.
    """
    total = 3 * 49 * widths[0] + 3 * widths[0]
    total += sum(9 * before * after + after + 2 * before for before, after in itertools.pairwise(widths))
    return total + sum(2 * n * (12 * width**2 + 33 * width) for n, width in zip((1, 1, 9, 1), widths))


@pytest.mark.parametrize("name", sorted(KNOWN_ENCODERS))
def test_known_encoders_build_on_the_meta_device_without_files(name):
    # (parameters, tokens, width) of the published models.
    expected = {
        "clip-vit-b-32": (87_456_000, 49, 768),
        "clip-vit-l-224": (303_179_776, 256, 1024),
        "clip-vit-l-336": (303_507_456, 576, 1024),
        "clip-vit-h-224": (630_766_080, 256, 1280),
        "siglip-base-224": (92_884_224, 196, 768),
        "siglip-so400m-384": (428_225_600, 729, 1152),
        "siglip-so400m-224": (428_225_600 - (729 - 256) * 1152, 256, 1152),
        # Patches, class token and places; 48 layers of attention, MLP and two LayerNorms; two LayerNorms around them.
        "clip-vit-bigg-224": (
            (588 + 1 + 257) * 1664 + 48 * (4 * 1664 * 1665 + (2 * 1664 + 1) * 8192 + 1664 + 4 * 1664) + 4 * 1664,
            256,
            1664,
        ),
        "dinov2-b": (86_580_480, 1369, 768),
        "dinov2-l": (304_368_640, 1369, 1024),
        "languagebind-image": (303_179_776, 256, 1024),
        # 24 times the attention, a LayerNorm and 8 embeddings more.
        "languagebind-video": (303_179_776 + 24 * (4 * 1024 * 1025 + 2 * 1024 + 8 * 1024), 256, 1024),
        # Without the LayerNorm that transformers keeps there for the Q-Former.
        "eva-clip-g-224": (985_949_440, 256, 1408),
        "davit-b-768": (davit(128, 256, 512, 1024), 576, 1024),
        "davit-l-768": (davit(256, 512, 1024, 2048), 576, 2048),
    }[name]
    encoder = build_encoder(EncoderConfig(id=name), meta=True, attention="sdpa")
    assert next(encoder.parameters()).is_meta
    assert (count(encoder), encoder.num_tokens, encoder.dim) == expected
    assert encoder.transform == EncoderConfig(id=name).transform()


def test_the_transform_follows_the_family_and_the_overrides():
    siglip = EncoderConfig(architecture=ARCHITECTURES["siglip"]).transform()
    assert (siglip.size, siglip.resize, siglip.mean) == (28, "squash", (0.5, 0.5, 0.5))
    dinov2 = EncoderConfig(architecture=ARCHITECTURES["dinov2"]).transform()
    assert (dinov2.resize, dinov2.mean) == ("crop", transforms.IMAGENET_MEAN)
    eva = EncoderConfig(id="eva-clip-g-224", image_size=364).transform()
    assert (eva.size, eva.resize, eva.std) == (364, "squash", transforms.CLIP_STD)
    llava = EncoderConfig(id="clip-vit-l-336", resize="pad", pad_colour=(0, 0, 0)).transform()
    assert (llava.size, llava.resize, llava.mean, llava.pad_colour) == (336, "pad", transforms.CLIP_MEAN, (0, 0, 0))
    assert EncoderConfig(id="clip-vit-l-336").transform(image_size=224).size == 224


def test_the_config_merges_as_a_structured_config():
    values = {"architecture": dict(ARCHITECTURES["clip"]), "layers": [1, 2], "mean": [0.5, 0.5, 0.5], "image_size": 42}
    merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(EncoderConfig), values))
    assert merged == EncoderConfig(
        architecture=ARCHITECTURES["clip"], layers=(1, 2), mean=(0.5, 0.5, 0.5), image_size=42
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["zoo", "zoo_sdpa", "zoo_eager", "eager"])
def test_attention_implementations_agree(family, attention):
    expected = build(family)(pixels()).tokens
    assert torch.allclose(build(family, attention=attention)(pixels()).tokens, expected, atol=1e-5)
