"""Every released checkpoint of a class of transformers at its published size: its keys, shapes and counts, unfilled."""

import functools
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    Blip2ForConditionalGeneration,
    Florence2ForConditionalGeneration,
    IdeficsForVisionText2Text,
    InstructBlipForConditionalGeneration,
    Kosmos2ForConditionalGeneration,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaNextVideoForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
    PaliGemmaForConditionalGeneration,
    VideoLlavaForConditionalGeneration,
    VipLlavaForConditionalGeneration,
)

from zoo.errors import ZooError
from zoo.factory import build_on_meta
from zoo.registry import entries, get_method
from zoo.weights import convert, detect, published_config, published_ids

CLASSES = {
    "blip-2": Blip2ForConditionalGeneration,
    "florence2": Florence2ForConditionalGeneration,
    "idefics": IdeficsForVisionText2Text,
    "instructblip": InstructBlipForConditionalGeneration,
    "kosmos-2": Kosmos2ForConditionalGeneration,
    "llava": LlavaForConditionalGeneration,
    "llava_next": LlavaNextForConditionalGeneration,
    "llava_next_video": LlavaNextVideoForConditionalGeneration,
    "llava_onevision": LlavaOnevisionForConditionalGeneration,
    "paligemma": PaliGemmaForConditionalGeneration,
    "video_llava": VideoLlavaForConditionalGeneration,
    "vipllava": VipLlavaForConditionalGeneration,
}
REGISTERED = {row["id"]: row["layout"] for entry in entries().values() for row in entry["weights"]}
# The same model under several ids is compared once.
DISTINCT = {repr(published_config(id)): id for id in reversed(published_ids())}.values()
ENCODER, BLOCK = 303_507_456, 139_476_994


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@functools.cache
def reference(id):
    fields = published_config(id)
    with torch.device("meta"):
        return CLASSES[fields["model_type"]](AutoConfig.for_model(fields.pop("model_type"), **fields))


@functools.cache
def ours(id):
    """The layout that is found for the class's own names, and our model at the size of the config."""
    config = published_config(id)
    layout = detect(config, reference(id).state_dict().keys())
    return layout, build_on_meta(layout.method_from_config(config, Path("no folder")))


def test_every_checkpoint_of_transformers_has_its_config_here():
    assert {id for id, layout in REGISTERED.items() if layout.endswith("-hf")} == set(published_ids())
    with pytest.raises(ZooError, match=r"Did you mean 'llava-hf/llava-1\.5-7b-hf'"):
        published_config("llava-hf/llava-1.5-7b")


@pytest.mark.parametrize("id", sorted(DISTINCT))
def test_keys_and_shapes(id):
    theirs = reference(id).state_dict()
    layout, model = ours(id)
    assert layout.name == REGISTERED[id]
    state = model.state_dict()
    mapped = convert(theirs, layout, "to_canonical")
    zero = layout.zero_keys(published_config(id))
    assert mapped.keys() | zero == state.keys()
    assert {key: tensor.shape for key, tensor in mapped.items()} == {
        key: tensor.shape for key, tensor in state.items() if key not in zero
    }
    # Nothing is left out but what the class computes by itself, and the way back is the same names.
    left_out = theirs.keys() - layout.rename(theirs, "to_canonical").keys()
    assert all(key.endswith(layout.constants) for key in left_out)
    released = convert(state, layout, "from_canonical")
    assert convert(released, layout, "to_canonical").keys() == state.keys()


def test_published_counts_of_llava():
    for size, language_model, projector in (("7b", 4096, 20_979_712), ("13b", 5120, 5120 * (1024 + 1 + 5120 + 1))):
        id = f"llava-hf/llava-1.5-{size}-hf"
        layout, model = ours(id)
        assert layout.name == "llava-hf"
        assert count(model.encoder) == ENCODER and count(model.connector) == projector
        assert model.language_model.dim == language_model
        assert count(model) == count(reference(id))


@pytest.mark.parametrize(
    ("id", "qformer"),
    [
        ("Salesforce/blip2-opt-2.7b", 105_137_664),
        ("Salesforce/blip2-flan-t5-xxl", 105_137_664),
        ("Salesforce/instructblip-vicuna-7b", 185_660_160),
        ("Salesforce/instructblip-flan-t5-xl", 185_660_160),
    ],
)
def test_published_counts_around_a_qformer(id, qformer):
    expected, (_, model) = reference(id), ours(id)
    norm = 2 * 1408
    assert count(expected.qformer) == qformer
    # transformers counts the norm behind the tower to the tower; it is the connector's.
    assert count(expected.vision_model) == 985_952_256 == count(model.encoder) + norm
    projection = 768 * model.language_model.dim + model.language_model.dim
    assert count(model.connector) == qformer + 24_576 + projection + norm
    if id.endswith("vicuna-7b"):
        assert count(model.connector) - norm == 188_834_560
    assert count(model) == count(expected)


def test_published_count_of_paligemma():
    id = "google/paligemma-3b-mix-224"
    _, model = ours(id)
    assert count(model) == count(reference(id)) == 2_923_466_480


def test_published_counts_of_flamingos():
    openflamingo, otter = build_on_meta(get_method("openflamingo")), build_on_meta(get_method("otter"))
    assert count(openflamingo.connector) == count(otter.connector) == 63_019_008
    # Eight blocks in front of a LLaMA-7B.
    assert count(otter.fusion) == 8 * BLOCK == 1_115_815_952
    _, idefics = ours("HuggingFaceM4/idefics-9b")
    assert count(idefics) == count(reference("HuggingFaceM4/idefics-9b"))


def test_published_counts_of_what_is_trained():
    from zoo.training.tuning import part_table, set_trainable

    method = get_method("minigpt-4")
    model = build_on_meta(method)
    set_trainable(model, method.stages[0])
    assert {row[0]: row[3] for row in part_table(model, method.stages[0]) if row[3]} == {"connector": 3_149_824}


# (layout, method) of releases without a class: at the published size the names are the released ones.
ORIGINAL = {
    "blip2-t5-lavis": ("blip2-flan-t5", "t5_proj.weight", (2048, 768)),
    "instructblip-vicuna-lavis": ("instructblip", "llm_proj.weight", (4096, 768)),
    "minigpt-4-original": ("minigpt-4", "llama_proj.weight", (4096, 768)),
    "video-llama-original": ("video-llama", "video_frame_position_embedding.weight", (32, 768)),
    "llava-lora": ("llava-1.5", "base_model.model.model.mm_projector.2.weight", (4096, 4096)),
    "shikra-original": ("shikra", "model.mm_projector.weight", (4096, 1024)),
    "gpt4roi-original": ("gpt4roi", "model.spi_module.roi_align.flatten_linear.weight", (1024, 200_704)),
    "video-chatgpt-original": ("video-chatgpt", "model.mm_projector.weight", (4096, 1024)),
    "otter": ("otter", "lang_encoder.model.layers.31.gated_cross_attn_layer.attn.to_kv.weight", (1024, 1024)),
    "openflamingo": (
        "openflamingo",
        "lang_encoder.gpt_neox.layers.31.gated_cross_attn_layer.attn.to_kv.weight",
        (1024, 1024),
    ),
}


@pytest.mark.parametrize("layout", ORIGINAL)
def test_names_of_original_releases(layout):
    name, key, shape = ORIGINAL[layout]
    state = build_on_meta(get_method(name)).state_dict()
    released = convert(state, layout, "from_canonical")
    assert tuple(released[key].shape) == shape
    assert convert(released, layout, "to_canonical").keys() == state.keys()
