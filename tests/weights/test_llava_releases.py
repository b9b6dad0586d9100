"""Releases around the original LLaVA code: differences to a base, LoRA adapters, Shikra, GPT4RoI, Video-ChatGPT."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import clip, fill, llama, train_tokenizer

import zoo
from zoo.connectors import MLP, GPT4RoI, Linear
from zoo.encoders import EncoderConfig
from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.language import LanguageModelConfig
from zoo.registry import get_method
from zoo.weights import LLAVA_ORIGINAL, convert, get_layout, load_released

TOWER = "model.vision_tower."
REGIONS = GPT4RoI(levels=(1, 4), pyramid_scales=(2, 1), width=64, num_rounds=2, roi_size=3)
CONNECTORS = {"shikra": Linear(), "gpt4roi": REGIONS, "llava": Linear(), "llava-1.5": MLP(depth=2)}
LAYOUTS = {"shikra": "shikra-original", "gpt4roi": "gpt4roi-original"}
MODEL_TYPES = {"shikra": "shikra", "video-chatgpt": "VideoChatGPT"}


def language_model(folder, added=()):
    """A Llama whose vocabulary holds the added tokens, as the checkpoints of these methods have it."""
    tokenizer = train_tokenizer()
    tokenizer.add_tokens(list(added), special_tokens=True)
    llama(len(tokenizer), num_key_value_heads=4).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def same(model, expected):
    ours, theirs = model.state_dict(), expected.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)


def trained(name, base, tower, **fields):
    """A model of a method on tiny parts, no value of which is neutral."""
    published = get_method(name)
    method = dataclasses.replace(
        published,
        encoder=EncoderConfig(id=str(tower), layer=-2, resize=published.encoder.resize),
        connector=CONNECTORS.get(name, published.connector),
        language_model=LanguageModelConfig(id=base, **fields),
    )
    model = build_model(method)
    for part in (model.connector, model.language_model):
        fill(part, 0.1)
    return model


def write(folder, state, model, name, **fields):
    """A folder as the original code saves it: without the tower, with the tokenizer."""
    folder.mkdir(exist_ok=True)
    text = model.language_model.model.config.to_dict()
    projector = {} if len(getattr(model.connector, "layers", [1])) == 1 else {"mm_projector_type": "mlp2x_gelu"}
    config = {key: text[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}
    config |= {key: text[key] for key in ("num_attention_heads", "num_key_value_heads", "rms_norm_eps")}
    config |= {"model_type": MODEL_TYPES.get(name, "llava"), "mm_vision_select_layer": -2, "use_mm_proj": True}
    config |= {"mm_vision_tower": model.encoder.config.id, **projector, **fields}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({key: value.clone() for key, value in state.items()}, folder / "model.safetensors")
    model.language_model.tokenizer.save_pretrained(folder)
    return folder


def released(model, layout):
    state = convert(model.state_dict(), layout, "from_canonical")
    return {key: value for key, value in state.items() if TOWER not in key}


@pytest.fixture
def tower(tmp_path):
    clip_five = clip()
    config = clip_five.config
    config.num_hidden_layers = 5
    fill(type(clip_five)(config), 0.05).save_pretrained(tmp_path / "tower")
    return tmp_path / "tower"


def refusal(path, **options):
    with pytest.raises(ZooError) as caught:
        load_released(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", LAYOUTS)
def test_methods_on_llava(tmp_path, tower, name):
    base = language_model(tmp_path / "base", get_method(name).vocabulary)
    model = trained(name, base, tower, has_added_tokens=True)
    state = released(model, LAYOUTS[name])
    folder = write(tmp_path / "x", state, model, name)
    again = load_released(folder)
    assert again.method.name == name and same(again, model)
    if name == "gpt4roi":
        assert again.method.connector == dataclasses.replace(REGIONS, sampling_ratio=2, num_groups=64)
    canonical = convert(state, LAYOUTS[name], "to_canonical")
    back = convert(canonical, LAYOUTS[name], "from_canonical")
    assert back.keys() == state.keys() and all(back[key] is state[key] for key in state)
    key = "model.mm_projector.bias"
    assert key in refusal(write(folder, {k: v for k, v in state.items() if k != key}, model, name))
    assert "model.mm_projector.scale" in refusal(
        write(folder, state | {"model.mm_projector.scale": torch.rand(1)}, model, name)
    )
    assert f"{key} has shape (5,)" in refusal(write(folder, state | {key: torch.rand(5)}, model, name))
    assert "the tokenizer lacks ['<im_patch>'" in refusal(write_tokenizer(folder, model, state, name))


def write_tokenizer(folder, model, state, name):
    write(folder, state, model, name)
    train_tokenizer().save_pretrained(folder)
    return folder


# Of a released GPT4RoI with two levels and two rounds; the released one has four and five.
REGION_KEYS = {
    f"model.spi_module.{name}.{kind}"
    for kind in ("weight", "bias")
    for name in (
        *(f"mlvl_fuse.input_conv.{level}" for level in range(2)),
        *(f"mlvl_fuse.fuse_convs.{number}.gn" for number in range(2)),
        *(f"roi_align.pconvs.{level}" for level in range(2)),
        *(f"roi_align.pos_embedd.{place}" for place in (0, 2, 3, 5)),
        *("roi_align.updims", "roi_align.flatten_linear"),
    )
} | {f"model.spi_module.mlvl_fuse.fuse_convs.{number}.conv.weight" for number in range(2)}


def test_the_region_module_has_the_released_names(tmp_path, tower):
    base = language_model(tmp_path / "base", get_method("gpt4roi").vocabulary)
    state = released(trained("gpt4roi", base, tower, has_added_tokens=True), "gpt4roi-original")
    assert {key for key in state if "spi_module" in key} == REGION_KEYS


def test_the_levels_of_the_published_tower_are_the_published_ones(tmp_path):
    config = {"mm_vision_tower": "openai/clip-vit-large-patch14", "model_type": "llava", "mm_vision_select_layer": -2}
    sizes = {"num_levels": 4, "width": 1024, "roi_size": 14, "num_rounds": 5}
    method = get_layout("gpt4roi-original").method_from_config(config | sizes, tmp_path)
    assert method.connector == get_method("gpt4roi").connector
    assert method.encoder == get_method("gpt4roi").encoder


def quantised(state, seed):
    """Values that float32 adds and subtracts without rounding."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randint(-512, 512, value.shape, generator=generator) / 1024 for key, value in state.items()}


@pytest.mark.parametrize("name", ["llava", "shikra", "gpt4roi"])
def test_a_difference_and_its_base(tmp_path, tower, name):
    """The base has the vocabulary before tokens were added; the projector and the region module are there in full."""
    layout = LAYOUTS.get(name, "llava-original")
    vocabulary = get_method(name).vocabulary
    model = trained(name, language_model(tmp_path / "full", vocabulary), tower, has_added_tokens=bool(vocabulary))
    network = llama(len(train_tokenizer()), num_key_value_heads=4)
    network.load_state_dict(quantised(network.state_dict(), 1))
    network.save_pretrained(tmp_path / "base")
    base = load_file(tmp_path / "base" / "model.safetensors")
    total = quantised(released(model, layout), 2)
    delta = {key: value.clone() for key, value in total.items()}
    for key, value in base.items():
        delta[key][: len(value)] -= value
    folder = write(tmp_path / "delta", delta, model, name)
    loaded = load_released(folder, delta_of=str(tmp_path / "base"))
    assert all(torch.equal(value, total[key]) for key, value in released(loaded, layout).items())
    # Half precision is added in half precision, as published.
    write(folder, {key: value.half() for key, value in delta.items()}, model, name)
    halved = released(load_released(folder, delta_of=str(tmp_path / "base")), layout)
    key = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(halved[key], (delta[key].half() + base[key].half()).float())
    missing = "model.layers.0.self_attn.q_proj.weight"
    write(folder, {k: v for k, v in delta.items() if k != missing}, model, name)
    assert missing in refusal(folder, delta_of=str(tmp_path / "base"))
    write(folder, delta, model, name)
    llama(len(train_tokenizer()), num_key_value_heads=4, hidden_size=16).save_pretrained(tmp_path / "other")
    assert "has shape" in refusal(folder, delta_of=str(tmp_path / "other"))
    assert "is no folder" in refusal(folder, delta_of=str(tmp_path / "nowhere"))


def test_a_released_difference_is_refused_without_its_base():
    with pytest.raises(ZooError, match=r"is a difference to huggyllama/llama-7b; give delta_of='huggyllama/llama-7b'"):
        zoo.load("shikras/shikra-7b-delta-v1")


def test_a_difference_without_its_base_is_pointed_out(tmp_path, tower):
    model = trained("llava", language_model(tmp_path / "base"), tower)
    state = released(model, "llava-original")
    state["model.norm.weight"] = torch.linspace(-0.02, 0.03, 32)
    with pytest.warns(UserWarning, match="delta_of"):
        load_released(write(tmp_path / "x", state, model, "llava"))


def adapter(state, rank, targets):
    """Factors for every layer named so, and what a run trained beside them."""
    generator = torch.Generator().manual_seed(4)
    factors = {}
    for key, value in state.items():
        if key.removesuffix(".weight").rpartition(".")[2] in targets:
            name = "base_model.model." + key.removesuffix(".weight")
            factors[f"{name}.lora_A.weight"] = torch.randn(rank, value.shape[1], generator=generator)
            factors[f"{name}.lora_B.weight"] = torch.randn(len(value), rank, generator=generator)
    return factors, {f"base_model.model.{key}": value for key, value in state.items() if "mm_projector" in key}


def test_lora_adapters_over_a_base(tmp_path, tower):
    base = language_model(tmp_path / "base")
    model = trained("llava-1.5", base, tower)
    state, plain = released(model, "llava-original"), load_file(tmp_path / "base" / "model.safetensors")
    targets, rank, alpha = ["q_proj", "down_proj"], 4, 6
    factors, beside = adapter(state, rank, targets)
    folder = write(tmp_path / "x", state, model, "llava-1.5")
    (folder / "model.safetensors").unlink()
    config = {"r": rank, "lora_alpha": alpha, "target_modules": targets, "base_model_name_or_path": "lmsys/vicuna"}

    def save(factors, beside=beside, **fields):
        (folder / "adapter_config.json").write_text(json.dumps(config | fields))
        torch.save(factors, folder / "adapter_model.bin")
        torch.save(beside, folder / "non_lora_trainables.bin")

    save(factors)
    loaded = load_released(folder, base=base)
    assert loaded.method.name == "llava-1.5"
    for key, value in released(loaded, "llava-original").items():
        name = f"base_model.model.{key.removesuffix('.weight')}.lora_"
        expected = plain.get(key, state[key])
        if f"{name}A.weight" in factors:
            change = alpha / rank * factors[f"{name}B.weight"] @ factors[f"{name}A.weight"]
            assert change.abs().max() > 0.1
            expected = expected + change
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    assert same(loaded_with(save, folder, base, renamed(factors)), loaded)
    save(factors, use_rslora=True)
    scaled = load_released(folder, base=base).state_dict()["language_model.model.model.layers.0.mlp.down_proj.weight"]
    name = "base_model.model.model.layers.0.mlp.down_proj.lora_"
    change = alpha / rank**0.5 * factors[f"{name}B.weight"] @ factors[f"{name}A.weight"]
    torch.testing.assert_close(scaled, plain["model.layers.0.mlp.down_proj.weight"] + change, rtol=1e-6, atol=1e-6)

    save(factors)
    everything = factors | beside
    canonical = convert(everything, "llava-lora", "to_canonical")
    back = convert(canonical, "llava-lora", "from_canonical")
    assert back.keys() == everything.keys() and all(back[key] is everything[key] for key in back)
    assert "'lmsys/vicuna'" in refusal(folder)
    save({key: value for key, value in factors.items() if key != f"{name}B.weight"})
    assert f"{name}B.weight" in refusal(folder, base=base)
    save(factors | {"base_model.model.model.layers.9.mlp.down_proj.lora_A.weight": torch.rand(4, 4)})
    assert "layers.9.mlp.down_proj.lora_A.weight" in refusal(folder, base=base)
    save(factors | {f"{name}A.weight": torch.rand(3, 3)})
    assert "layers.0.mlp.down_proj" in refusal(folder, base=base)
    save(factors, {key: value for key, value in beside.items() if not key.endswith("2.bias")})
    assert "base_model.model.model.mm_projector.2.bias" in refusal(folder, base=base)
    save(factors, use_dora=True)
    assert "use_dora" in refusal(folder, base=base)


def renamed(factors):
    """As newer versions of peft save them."""
    return {key.replace(".weight", ".default.weight"): value for key, value in factors.items()}


def loaded_with(save, folder, base, factors):
    save(factors)
    return load_released(folder, base=base)


def test_video_chatgpt_is_a_file_on_a_llava(tmp_path, tower):
    """Its tables have a row for the placeholder and rows for the two marks behind those of LLaVA."""
    base = language_model(tmp_path / "base")
    llava = trained("llava", base, tower)
    folder = write(tmp_path / "llava", released(llava, "llava-original"), llava, "llava")
    model = trained("video-chatgpt", base, tower)
    state = released(model, "video-chatgpt-original")
    for table in ("model.embed_tokens", "lm_head"):
        weight, added = state[f"{table}.weight"], state.pop(f"{table}.added")
        state[f"{table}.weight"] = torch.cat([weight, torch.rand(1, weight.shape[1]), added])
    file = tmp_path / "video_chatgpt-7B.bin"
    torch.save(state, file)
    loaded = load_released(file, base=str(folder))
    assert loaded.method.name == "video-chatgpt" and same(loaded, model)
    canonical = convert(state, "video-chatgpt-original", "to_canonical")
    back = convert(canonical, "video-chatgpt-original", "from_canonical")
    assert back.keys() == state.keys() and all(back[key] is state[key] for key in state)

    # The projector alone: the language model is LLaVA's.
    projector = {key: value for key, value in state.items() if "mm_projector" in key}
    torch.save(projector, file)
    alone = load_released(file, base=str(folder))
    assert torch.equal(alone.connector.projection.weight, model.connector.projection.weight)
    ours, theirs = alone.language_model.state_dict(), llava.language_model.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert torch.equal(ours["model.lm_head.added"], theirs["model.lm_head.weight"].mean(0).expand(2, -1))
    assert "needs its base, a checkpoint of the original LLaVA code" in refusal(file)

    key = "model.layers.1.mlp.up_proj.weight"
    torch.save({k: v for k, v in state.items() if k != key}, file)
    assert key in refusal(file, base=str(folder))
    torch.save(state | {"model.mm_projector.scale": torch.rand(1)}, file)
    assert "model.mm_projector.scale" in refusal(file, base=str(folder))
    torch.save(state | {"lm_head.weight": torch.rand(7, 32)}, file)
    assert "lm_head.weight" in refusal(file, base=str(folder))
    assert "is no folder" in refusal(file, base=str(tmp_path / "nowhere"))


def test_video_chatgpt_with_a_config_of_its_own(tmp_path, tower):
    base = language_model(tmp_path / "base", ("<vid_patch>", "<vid_start>", "<vid_end>"))
    model = trained("video-chatgpt", base, tower, has_added_tokens=True)
    folder = write(tmp_path / "x", released(model, "video-chatgpt-original"), model, "video-chatgpt")
    loaded = load_released(folder)
    assert same(loaded, model) and loaded.language_model.num_added == 0


def test_only_one_layout_fits():
    from zoo.weights import detect

    keys = {"model.mm_projector.weight", "model.layers.0.mlp.up_proj.weight"}
    for config, name in (
        ({"model_type": "llava"}, "llava-original"),
        ({"model_type": "shikra"}, "shikra-original"),
        ({"model_type": "VideoChatGPT"}, "video-chatgpt-original"),
        ({}, "video-chatgpt-original"),
    ):
        assert detect(config, keys).name == name
    regions = keys | {"model.spi_module.roi_align.updims.weight"}
    assert detect({"model_type": "llava"}, regions).name == "gpt4roi-original"
    assert LLAVA_ORIGINAL.matches({"model_type": "llava"}, keys)
