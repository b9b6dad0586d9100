"""Partial checkpoints around a Q-Former: LAVIS's BLIP-2 and InstructBLIP, MiniGPT-4, Video-LLaMA, on named bases."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from tiny import fill

from zoo.connectors import QFormer, VideoQFormer
from zoo.encoders import EncoderConfig
from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.language import LanguageModelConfig
from zoo.registry import get_method
from zoo.weights import convert, get_layout, lavis, load_released, minigpt_4, video_llama

# Heads of 64 are what the number of heads is told from.
SIZES = {"width": 128, "num_heads": 2, "intermediate": 48}
QFORMER = QFormer(num_queries=3, num_layers=3, instruction_tokenizer="", instruction_vocabulary=0, **SIZES)
VIDEO = VideoQFormer(num_frame_queries=3, num_queries=4, max_frames=5, num_layers=3, num_video_layers=2, **SIZES)
# Layout -> (method, connector, folder of the language model, prefixes of what a release leaves out).
FROZEN = ("visual_encoder.", "opt_model.", "t5_model.", "llm_model.", "llama_model.")
BLIP2 = ("ln_vision.", "query_tokens", "Qformer.")
RELEASES = {
    "blip2-opt-lavis": ("blip2", QFORMER, "language_model", FROZEN),
    "blip2-t5-lavis": ("blip2-flan-t5", QFORMER, "encoder_decoder", FROZEN),
    "instructblip-vicuna-lavis": (
        "instructblip",
        dataclasses.replace(QFORMER, reads_instruction=True),
        "language_model",
        FROZEN,
    ),
    "instructblip-t5-lavis": (
        "instructblip-flan-t5",
        dataclasses.replace(QFORMER, reads_instruction=True),
        "encoder_decoder",
        FROZEN,
    ),
    "minigpt-4-original": ("minigpt-4", QFORMER, "language_model", (*FROZEN, *BLIP2)),
    "video-llama-original": ("video-llama", VIDEO, "language_model", (*FROZEN, *BLIP2)),
}


def same(model, expected):
    ours, theirs = model.state_dict(), expected.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.fixture
def release(request, tmp_path, monkeypatch, tiny_parts):
    """(layout, model, the weights released of it, the base, and a folder blip2 where that is one)."""
    layout, (name, connector, language_model, left_out) = request.param, RELEASES[request.param]
    encoder = EncoderConfig(id=str(tiny_parts / "encoder"), layer=-1, class_token=True)
    base = str(tiny_parts / language_model)
    method = dataclasses.replace(get_method(name), encoder=encoder, connector=connector)
    model = build_model(dataclasses.replace(method, language_model=LanguageModelConfig(id=base)))
    fill(model.connector, 0.1)
    if BLIP2[0] in left_out:
        (tmp_path / "blip2").mkdir()
        whole = convert(blip2_of(model, encoder, base).state_dict(), "blip2-hf", "from_canonical")
        save_file({key: value.clone() for key, value in whole.items()}, tmp_path / "blip2" / "model.safetensors")
        (tmp_path / "blip2" / "config.json").write_text('{"model_type": "blip-2"}')
        connector = dataclasses.replace(connector, initial=str(tmp_path / "blip2"))
    published = dataclasses.replace(method, connector=connector)
    for module in (lavis, minigpt_4, video_llama):
        monkeypatch.setattr(module, "get_method", lambda name: published)
    state = convert(model.state_dict(), layout, "from_canonical")
    return layout, model, {key: value for key, value in state.items() if not key.startswith(left_out)}, base


def blip2_of(model, encoder, base):
    """BLIP-2 whose Q-Former a model has."""
    method = dataclasses.replace(
        get_method("blip2"), encoder=encoder, connector=QFORMER, language_model=LanguageModelConfig(id=base)
    )
    blip2 = fill(build_model(method), 0.2, seed=3)
    names = {"frame.": "body."} if hasattr(model.connector, "frame") else {}
    theirs = dict(blip2.connector.state_dict())
    for key, value in model.connector.state_dict().items():
        key = next((new + key.removeprefix(old) for old, new in names.items() if key.startswith(old)), key)
        if key in theirs and not key.startswith("projection."):
            theirs[key] = value
    blip2.connector.load_state_dict(theirs)
    return blip2


every_release = pytest.mark.parametrize("release", RELEASES, indirect=True)


@every_release
def test_a_partial_checkpoint_on_its_bases(release, tmp_path):
    _, model, state, base = release
    # As a training run saves it, alone in its folder or named.
    (tmp_path / "alone").mkdir()
    torch.save({"model": state, "epoch": 7, "config": {"lr": 1e-4}}, tmp_path / "alone" / "any_name.pth")
    for path in (tmp_path / "alone", tmp_path / "alone" / "any_name.pth"):
        again = load_released(path, base=base)
        assert again.method.name == model.method.name
        assert same(again, model)


@every_release
def test_conversion_is_lossless_both_ways(release):
    layout, model, state, _ = release
    canonical = convert(state, layout, "to_canonical")
    back = convert(canonical, layout, "from_canonical")
    assert back.keys() == state.keys() and all(back[key] is state[key] for key in state)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in canonical.items())
    assert get_layout(layout).matches({}, state.keys())


@pytest.mark.parametrize(
    "release", ["instructblip-vicuna-lavis", "minigpt-4-original", "video-llama-original"], indirect=True
)
def test_what_does_not_fit_is_said(release, tmp_path):
    _, _, state, base = release

    def refused(tensors, **options):
        torch.save(tensors, tmp_path / "x.pth")
        with pytest.raises(ZooError) as caught:
            load_released(tmp_path / "x.pth", **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "needs its base, published with" in refused(state)
    bias = next(key for key in state if key.endswith("proj.bias"))
    assert bias in refused({key: value for key, value in state.items() if key != bias}, base=base)
    assert f"{bias} has shape (7,)" in refused(state | {bias: torch.rand(7)}, base=base)
    assert "audio_query_tokens" in refused(state | {"audio_query_tokens": torch.rand(3)}, base=base)
    (tmp_path / "several").mkdir()
    for name in ("a.pth", "b.pth"):
        torch.save(state, tmp_path / "several" / name)
    with pytest.raises(ZooError, match=r"give one of a\.pth, b\.pth"):
        load_released(tmp_path / "several", base=base)


# The 48 keys of a released BLIP-2 with OPT whose Q-Former has two layers.
RELEASED_KEYS = {"query_tokens"} | {
    f"{name}.{kind}"
    for kind in ("weight", "bias")
    for name in (
        "ln_vision",
        "opt_proj",
        "Qformer.bert.embeddings.LayerNorm",
        *(
            f"Qformer.bert.encoder.layer.{layer}.{part}"
            for layer in range(2)
            for part in (
                *(f"attention.self.{x}" for x in ("query", "key", "value")),
                *("attention.output.dense", "attention.output.LayerNorm"),
                *("intermediate_query.dense", "output_query.dense", "output_query.LayerNorm"),
            )
        ),
        *(f"Qformer.bert.encoder.layer.0.crossattention.self.{x}" for x in ("query", "key", "value")),
        *(f"Qformer.bert.encoder.layer.0.crossattention.output.{x}" for x in ("dense", "LayerNorm")),
    )
}


def test_names_are_the_released_ones():
    from zoo.factory import build_on_meta

    published = get_method("blip2")
    connector = dataclasses.replace(published.connector, representation=False, num_layers=2)
    model = build_on_meta(dataclasses.replace(published, connector=connector))
    keys = convert(model.state_dict(), "blip2-opt-lavis", "from_canonical").keys()
    assert {key for key in keys if not key.startswith(FROZEN)} == RELEASED_KEYS


@pytest.mark.parametrize(
    ("projection", "width", "name"),
    [
        *(("opt_proj", 2560, "opt-2.7b"), ("opt_proj", 4096, "opt-6.7b"), ("t5_proj", 2048, "flan-t5-xl")),
        *(
            ("t5_proj", 4096, "flan-t5-xxl"),
            ("llm_proj", 4096, "vicuna-7b-v1.1"),
            ("llm_proj", 5120, "vicuna-13b-v1.1"),
        ),
        *(("llama_proj", 4096, "vicuna-7b-v0"), ("llama_proj", 5120, "vicuna-13b-v0")),
    ],
)
def test_the_base_is_told_from_the_projection(projection, width, name):
    from zoo.language.known import KNOWN

    found = lavis.base_name(projection, {f"{projection}.weight": torch.empty(width, 768, device="meta")})
    assert found == name
    fields = KNOWN[name]["architecture"]
    assert width in (fields.get("hidden_size"), fields.get("d_model"))


@pytest.mark.parametrize("release", ["blip2-opt-lavis"], indirect=True)
def test_a_tower_in_the_file_has_its_own_names(release, tmp_path):
    _, _, state, base = release
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.randn(shape, generator=generator) * 0.1

    width, mlp, num_layers = 88, 96, 2
    tower = {"cls_token": rand(1, 1, width), "pos_embed": rand(1, 5, width)}
    tower |= {"patch_embed.proj.weight": rand(width, 3, 14, 14), "patch_embed.proj.bias": rand(width)}
    for layer in range(num_layers):
        shapes = {"norm1": (width,), "norm2": (width,), "attn.proj": (width, width)}
        shapes |= {"mlp.fc1": (mlp, width), "mlp.fc2": (width, mlp)}
        for name, shape in shapes.items():
            tower[f"blocks.{layer}.{name}.weight"] = rand(*shape)
            tower[f"blocks.{layer}.{name}.bias"] = rand(shape[0])
        tower[f"blocks.{layer}.attn.qkv.weight"] = rand(3 * width, width)
        tower |= {f"blocks.{layer}.attn.{x}_bias": rand(width) for x in "qv"}
    state = state | {f"visual_encoder.{key}": value for key, value in tower.items()}
    for key in ("ln_vision.weight", "ln_vision.bias"):
        state[key] = rand(width)
    for key in [key for key in state if "crossattention.self.key" in key or "crossattention.self.value" in key]:
        state[key] = rand(128, width) if key.endswith("weight") else state[key]
    torch.save({"model": state}, tmp_path / "whole.pth")
    loaded = load_released(tmp_path / "whole.pth", base=base)
    config = loaded.encoder.model.config
    assert (config.image_size, config.patch_size, config.num_attention_heads) == (28, 14, 1)
    vision = dict(loaded.encoder.model.state_dict())
    joined = vision["encoder.layers.1.self_attn.qkv.bias"].split(width)
    assert torch.equal(joined[0], tower["blocks.1.attn.q_bias"]) and not joined[1].any()
    assert torch.equal(joined[2], tower["blocks.1.attn.v_bias"])
    assert torch.equal(vision["embeddings.position_embedding"], tower["pos_embed"])
    for part in ("q", "v"):
        torch.save({key: x for key, x in state.items() if f"0.attn.{part}_bias" not in key}, tmp_path / "whole.pth")
        with pytest.raises(ZooError, match=r"encoder\.layers\.0\.self_attn\.qkv\.bias|blocks\.0\.attn\.[qv]_bias"):
            load_released(tmp_path / "whole.pth", base=base)


@pytest.mark.parametrize("release", ["minigpt-4-original", "video-llama-original"], indirect=True)
@pytest.mark.parametrize("kind", ["transformers", "lavis"])
def test_a_connector_begins_as_blip_2(release, kind, tmp_path, tiny_parts):
    _, model, _, base = release
    initial = tmp_path / "blip2"
    if kind == "lavis":
        initial = tmp_path / "blip2.pth"
        encoder = dataclasses.replace(model.method.encoder)
        state = convert(blip2_of(model, encoder, base).state_dict(), "blip2-t5-lavis", "from_canonical")
        torch.save({"model": {k: v for k, v in state.items() if not k.startswith(FROZEN)}}, initial)
    method = dataclasses.replace(
        model.method, connector=dataclasses.replace(model.method.connector, initial=str(initial))
    )
    begun, trained = build_model(method, seed=5).connector.state_dict(), model.connector.state_dict()
    fresh = build_model(model.method, seed=5).connector.state_dict()
    frozen = ("norm.", "frame.", "body.")
    for key in trained:
        assert torch.equal(begun[key], (trained if key.startswith(frozen) else fresh)[key]), key
    under, overrode = method.under(setting(str(tiny_parts / "encoder"), model.method))
    assert under.connector.initial == "" and any("connector.initial" in line for line in overrode)


def test_an_initial_checkpoint_that_does_not_fit_is_refused(tmp_path, tiny_parts):
    encoder = EncoderConfig(id=str(tiny_parts / "encoder"), layer=-1, class_token=True)
    base = str(tiny_parts / "language_model")
    method = dataclasses.replace(
        get_method("minigpt-4"), encoder=encoder, connector=QFORMER, language_model=LanguageModelConfig(id=base)
    )
    state = convert(build_model(method).state_dict(), "blip2-t5-lavis", "from_canonical")
    file = tmp_path / "blip2.pth"
    key = "Qformer.bert.encoder.layer.2.output_query.dense.bias"
    for change in ({}, {key: torch.rand(9)}):
        torch.save({k: v for k, v in state.items() if k != key} | change, file)
        with pytest.raises(ZooError, match=r"layers\.2\.query_mlp\.down\.bias|layer\.2\.output_query\.dense\.bias"):
            build_model(dataclasses.replace(method, connector=dataclasses.replace(QFORMER, initial=str(file))))
    with pytest.raises(ZooError, match=r"connector\.initial"):
        build_model(dataclasses.replace(method, connector=dataclasses.replace(QFORMER, initial=f"{tmp_path}/no")))


def setting(encoder, method):
    from zoo.definition import EvaluationSetting, Setting

    return Setting(
        encoder={"id": encoder},
        stages={stage.name: {} for stage in method.stages},
        evaluation=EvaluationSetting(tasks=(), num_items=1),
    )


def test_the_published_begin_as_blip_2():
    for name in ("minigpt-4", "video-llama"):
        assert get_method(name).connector.initial == "Salesforce/blip2-flan-t5-xxl"
