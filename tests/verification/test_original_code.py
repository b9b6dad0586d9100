"""``zoo verify`` on folders as original code gives them; results come from transformers, or from plain equations."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from PIL import Image
from safetensors.torch import save_file
from tiny import fill
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipImageProcessorPil,
)
from transformers.models.kosmos2.processing_kosmos2 import (
    clean_text_and_extract_entities_with_bboxes,
    coordinate_to_patch_index,
    patch_index_to_coordinate,
)

from zoo.verification import verify

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def write(folder, *, config, weights, inputs, outputs, **meta):
    for name, tensors in (("model", weights), ("inputs", inputs), ("outputs", outputs)):
        if tensors:
            kept = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
            save_file(kept, folder / f"{name}.safetensors")
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def check(folder, compared, **options):
    report = verify(folder, **options)
    print(report.render())
    assert report.passed
    assert {f"{d.probe}/{d.output}" for d in report.differences} >= set(compared)
    return report


@torch.no_grad()
def test_llava_with_a_row_without_image(tmp_path):
    vision = {"model_type": "clip_vision_model", **SIZES, "image_size": 20, "patch_size": 10}
    text = {"model_type": "llama", **SIZES, "vocab_size": 64, "pad_token_id": 0, "eos_token_id": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fill(LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=vision)), 0.2).eval()
    weights = {}
    for key, value in model.state_dict().items():
        for theirs, ours in (
            ("model.language_model.", "model."),
            ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
            ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
            ("lm_head.", "lm_head."),
        ):
            if key.startswith(theirs):
                weights[ours + key.removeprefix(theirs)] = value
    model.model.vision_tower.save_pretrained(tmp_path / "tower")
    config = {**text, "model_type": "llava_llama", "mm_vision_tower": "tower", "mm_vision_select_layer": -2}
    config |= {"mm_projector_type": "mlp2x_gelu", "mm_vision_select_feature": "patch", "hidden_act": "silu"}
    config |= {"mm_hidden_size": 16, "tie_word_embeddings": False, "max_position_embeddings": 2048}

    ids = torch.tensor([[1, 5, 6, 7, 2, 0], [1, -200, 8, 9, 10, 2]])
    labels = ids.masked_fill(ids <= 1, -100)
    pixels = draw(2, 3, 20, 20)
    # The row of text uses up the first image, and ends up beside one that is three places longer.
    expanded = torch.tensor([[1, 5, 6, 7, 2, 0, 0, 0, 0], [1, *[60] * 4, 8, 9, 10, 2]])
    real = expanded != 0
    model.config.image_token_id = 60
    expanded_labels = expanded.masked_fill((expanded <= 1) | (expanded == 60), -100)
    result = model(input_ids=expanded, attention_mask=real.long(), pixel_values=pixels[1:], labels=expanded_labels)
    prompt = torch.tensor([[1, *[60] * 4, 8, 9]])
    new = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        pixel_values=pixels[1:],
        max_new_tokens=5,
        do_sample=False,
    )[:, 7:]
    inputs = {"main/input_ids": ids, "main/attention_mask": (ids != 0).long(), "main/labels": labels}
    inputs |= {"main/images": pixels, "gen/input_ids": torch.tensor([[1, -200, 8, 9]]), "gen/images": pixels[1:]}
    outputs = {"main/logits": result.logits, "main/loss": result.loss, "main/merged_labels": expanded_labels}
    outputs |= {"main/merged_attention_mask": real.long()}
    outputs |= {"main/image_features": model.get_image_features(pixels).pooler_output[0].new_zeros(2, 4, 16)}
    for row, features in enumerate(model.get_image_features(pixels).pooler_output):
        outputs["main/image_features"][row] = features
    # Its generate returns a start token first.
    outputs |= {"gen/new_tokens": functional.pad(new, (1, 0), value=1)}
    write(
        tmp_path,
        config=config,
        weights=weights,
        inputs=inputs,
        outputs=outputs,
        reference="LLaVA LlavaLlamaForCausalLM",
    )
    check(tmp_path, [*(key for key in outputs if key != "main/image_features"), "main/image_features"])


@torch.no_grad()
def test_video_chatgpt_from_frame_features(tmp_path):
    text = {**SIZES, "vocab_size": 64, "pad_token_id": 0, "max_position_embeddings": 128}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fill(LlamaForCausalLM(LlamaConfig(**text)), 0.2).eval()
        projector = torch.nn.Linear(12, 16)
    num_temporal, patch = 5, 60
    features = draw(2, 3, 4, 12)
    pooled = torch.cat([features.mean(2), torch.zeros(2, num_temporal - 3, 12), features.mean(1)], dim=1)
    ids = torch.tensor([[1, *[patch] * 9, 5, 6, 7, 8], [1, 9, *[patch] * 9, 10, 11, 12]])
    labels = torch.tensor([[-100] * 12 + [7, 8], [-100] * 11 + [10, 11, 12]])
    embeddings = model.get_input_embeddings()(ids)
    embeddings = embeddings.masked_scatter((ids == patch)[..., None], projector(pooled))
    result = model(inputs_embeds=embeddings, labels=labels)
    new = model.generate(inputs_embeds=embeddings[:1, :12], max_new_tokens=4, do_sample=False)
    weights = {"model.mm_projector.weight": projector.weight, "model.mm_projector.bias": projector.bias}
    config = {"lm": text, "n": num_temporal, "s": 4, "t": 3, "patch": patch}
    inputs = {"main/frame_features": features, "main/input_ids": ids, "main/labels": labels}
    outputs = {"main/logits": result.logits, "main/loss": result.loss, "main/spatio_temporal_features": pooled}
    hundred = torch.cat([features[0].mean(1), torch.zeros(97, 12), features[0].mean(0)])
    outputs |= {"gen/new_tokens": new, "pool_to_100/features_first_16_channels": hundred[:, :16].half()}
    write(
        tmp_path,
        config=config,
        weights=weights | model.state_dict(),
        inputs=inputs,
        outputs=outputs,
        reference="Video-ChatGPT get_spatio_temporal_features, VideoChatGPTLlamaForCausalLM",
    )
    check(tmp_path, outputs)


@torch.no_grad()
def test_the_q_former_of_lavis_without_generation(tmp_path):
    config = Blip2QFormerConfig(
        **SIZES, vocab_size=40, encoder_hidden_size=12, max_position_embeddings=16, use_qformer_text_input=True
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fill(Blip2QFormerModel(config), 0.2).eval()
        words, positions = draw(40, 16, seed=1), draw(16, 16, seed=2)
    queries, images = draw(1, 3, 16, seed=3), draw(2, 5, 12, seed=4)
    # The class takes a mask of the images only for queries without text.
    seen = torch.ones(2, 5, dtype=torch.long)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    real = (ids != 0).long()
    text = words[ids] + positions[:4]
    reads = {"encoder_hidden_states": images}
    both = model(
        query_embeds=torch.cat([queries.expand(2, -1, -1), text], dim=1),
        query_length=3,
        attention_mask=functional.pad(real, (3, 0), value=1),
        **reads,
    )
    outputs = {
        "query_only/last_hidden_state": model(query_embeds=queries.expand(2, -1, -1), **reads).last_hidden_state,
        "text_only/last_hidden_state": model(query_embeds=text, query_length=0, attention_mask=real).last_hidden_state,
        "query_and_text/last_hidden_state": both.last_hidden_state,
    }
    weights = {
        "bert.embeddings.word_embeddings.weight": words,
        "bert.embeddings.position_embeddings.weight": positions,
        "cls.predictions.bias": draw(40),
        "cls.predictions.transform.dense.weight": draw(16, 16),
        "cls.predictions.transform.dense.bias": draw(16),
        "cls.predictions.transform.LayerNorm.weight": draw(16),
        "cls.predictions.transform.LayerNorm.bias": draw(16),
    }
    for key, value in model.state_dict().items():
        key = key.replace("layernorm.", "embeddings.LayerNorm.") if key.startswith("layernorm.") else key
        weights["bert." + key.replace("ttention.attention.", "ttention.self.")] = value
    inputs = {"main/query_tokens": queries, "main/image_embeds": images, "main/image_attention_mask": seen}
    inputs |= {"main/input_ids": ids, "main/attention_mask": real}
    write(
        tmp_path,
        config={"qformer": {"heads": 2}},
        weights=weights,
        inputs=inputs,
        outputs=outputs,
        reference="LAVIS BertLMHeadModel",
    )
    check(tmp_path, outputs)


def normed(x, weights, name):
    return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def attended(query, key, value, *, heads):
    """Rows of (length, heads * dim); no mask."""
    split = [x.unflatten(-1, (heads, -1)).transpose(0, 1) for x in (query, key, value)]
    scores = split[0] @ split[1].transpose(1, 2) / split[0].shape[-1] ** 0.5
    return (scores.softmax(-1) @ split[2]).transpose(0, 1).flatten(1)


@torch.no_grad()
def test_open_flamingos_modules(tmp_path):
    dim, dim_media, heads, head_dim, num_latents = 10, 8, 2, 3, 4
    inner = heads * head_dim
    weights = {"perceiver.latents": draw(num_latents, dim_media, seed=1)}
    shapes = {
        "perceiver.layers.0.0.norm_media": dim_media,
        "perceiver.layers.0.0.norm_latents": dim_media,
        "perceiver.layers.0.1.0": dim_media,
        "perceiver.norm": dim_media,
        "gated_cross_attn_layer.attn.norm": dim,
        "gated_cross_attn_layer.ff.0": dim,
        "perceiver.layers.0.0.to_q": (inner, dim_media),
        "perceiver.layers.0.0.to_kv": (2 * inner, dim_media),
        "perceiver.layers.0.0.to_out": (dim_media, inner),
        "perceiver.layers.0.1.1": (4 * dim_media, dim_media),
        "perceiver.layers.0.1.3": (dim_media, 4 * dim_media),
        "gated_cross_attn_layer.attn.to_q": (inner, dim),
        "gated_cross_attn_layer.attn.to_kv": (2 * inner, dim_media),
        "gated_cross_attn_layer.attn.to_out": (dim, inner),
        "gated_cross_attn_layer.ff.1": (4 * dim, dim),
        "gated_cross_attn_layer.ff.3": (dim, 4 * dim),
    }
    for seed, (name, shape) in enumerate(shapes.items(), start=10):
        if isinstance(shape, int):
            weights |= {f"{name}.weight": draw(shape, seed=seed), f"{name}.bias": draw(shape, seed=seed + 100)}
        else:
            weights[f"{name}.weight"] = 0.5 * draw(*shape, seed=seed)
    weights |= {
        "gated_cross_attn_layer.attn_gate": torch.tensor([0.7]),
        "gated_cross_attn_layer.ff_gate": torch.tensor([-0.4]),
    }

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T

    def resampled(features):
        latents, layer = weights["perceiver.latents"], "perceiver.layers.0"
        query = normed(latents, weights, f"{layer}.0.norm_latents")
        read = torch.cat([normed(features, weights, f"{layer}.0.norm_media"), query])
        key, value = linear(read, f"{layer}.0.to_kv").chunk(2, -1)
        latents = latents + linear(
            attended(linear(query, f"{layer}.0.to_q"), key, value, heads=heads), f"{layer}.0.to_out"
        )
        hidden = functional.gelu(linear(normed(latents, weights, f"{layer}.1.0"), f"{layer}.1.1"))
        return normed(latents + linear(hidden, f"{layer}.1.3"), weights, "perceiver.norm")

    def gated(text, media):
        """text (1, dim), media (tokens, dim_media) or None: what is read, and what the block gives."""
        block = "gated_cross_attn_layer"
        read = torch.zeros_like(text)
        if media is not None:
            query = linear(normed(text, weights, f"{block}.attn.norm"), f"{block}.attn.to_q")
            key, value = linear(media, f"{block}.attn.to_kv").chunk(2, -1)
            read = linear(attended(query, key, value, heads=heads), f"{block}.attn.to_out")
        text = text + weights[f"{block}.attn_gate"].tanh() * read
        hidden = functional.gelu(linear(normed(text, weights, f"{block}.ff.0"), f"{block}.ff.1"))
        return read, text + weights[f"{block}.ff_gate"].tanh() * linear(hidden, f"{block}.ff.3")

    features, text, step = draw(2, 2, 1, 5, dim_media, seed=50), draw(2, 6, dim, seed=51), draw(2, 1, dim, seed=52)
    begins = torch.tensor([[0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0]])
    soft = torch.stack([torch.stack([resampled(media[0]) for media in row]) for row in features])
    results = {"main": [], "no_locations": [], "cached": []}
    for row in range(2):
        count = begins[row].cumsum(0)
        for place in range(6):
            newest = soft[row, count[place] - 1] if count[place] else None
            results["main"].append(gated(text[row, place : place + 1], newest))
            results["no_locations"].append(gated(text[row, place : place + 1], soft[row].flatten(0, 1)))
        results["cached"].append(gated(step[row], soft[row, count[-1] - 1]))
    outputs = {"main/resampled": soft}
    outputs["main/cross_attn_out"] = torch.cat([read for read, _ in results["main"]]).view(2, 6, dim)
    for probe, found in results.items():
        outputs[f"{probe}/gated_out"] = torch.cat([out for _, out in found]).view(2, -1, dim)
    config = {
        "perceiver": {"dim": dim_media, "depth": 1, "heads": heads, "dim_head": head_dim, "num_latents": num_latents},
        "cross": {"dim": dim, "dim_visual": dim_media, "heads": heads, "dim_head": head_dim},
        "immediate": True,
    }
    inputs = {"main/vision_features": features, "main/text": text, "main/media_locations": begins, "cached/text": step}
    reference = "open_flamingo.src.helpers PerceiverResampler, MaskedCrossAttention, GatedCrossAttentionBlock"
    write(tmp_path, config=config, weights=weights, inputs=inputs, outputs=outputs, reference=reference)
    check(tmp_path, outputs)


def test_image_processors(tmp_path):
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((30, 44), (51, 20))]
    square = {"size": {"height": 24, "width": 24}}
    made = {
        "clip": (
            "CLIPImageProcessor",
            CLIPImageProcessorPil,
            {"size": {"shortest_edge": 24}, "crop_size": square["size"]},
        ),
        "blip": ("BlipImageProcessor", BlipImageProcessorPil, square),
        "siglip": ("SiglipImageProcessor", SiglipImageProcessorPil, square),
    }
    outputs = {
        f"{probe}/pixel_values.{number}": processor(**options)(Image.fromarray(image), return_tensors="pt").pixel_values
        for probe, (_, processor, options) in made.items()
        for number, image in enumerate(images)
    }
    inputs = {f"main/image.{number}": torch.from_numpy(image) for number, image in enumerate(images)}
    processors = {probe: [name, options] for probe, (name, _, options) in made.items()}
    reference = "transformers image processors, PIL backend"
    write(
        tmp_path, config=None, weights=None, inputs=inputs, outputs=outputs, reference=reference, processors=processors
    )
    assert max(d.largest for d in check(tmp_path, outputs).differences) == 0


def table(folder, rows):
    (folder / "table.json").write_text(json.dumps(rows))
    return write(
        folder, config=None, weights=None, inputs=None, outputs=None, reference="shikra box_process_function and others"
    )


def test_box_texts(tmp_path):
    box, unit = [12.25, 40.0, 180.5, 90.0], [0.2, 0.31, 0.5, 0.75]
    grounded = "<phrase> a dog</phrase><object><patch_index_0090><patch_index_1021></object> runs"
    clean, entities = clean_text_and_extract_entities_with_bboxes(grounded)
    rows = {
        "shikra.norm_box_xyxy": [[[box, 200, 100], [0.061, 0.4, 0.902, 0.9]]],
        "shikra.box_xyxy_expand2square": [[[box, 200, 100], [12.25, 90.0, 180.5, 140.0]]],
        "shikra.plain.format": [[[[unit, unit], "[] 3"], "[0.200,0.310,0.500,0.750;0.200,0.310,0.500,0.750]"]],
        "shikra.plain.extract": [[["at [0.200,0.310,0.500,0.750].", "[] 3"], [[unit]]], [["(0.20,0.31)", "() 2"], []]],
        "kosmos2.coordinate_to_patch_index": [[[unit, 32], list(coordinate_to_patch_index(tuple(unit), 32))]],
        "kosmos2.patch_index_to_coordinate": [[[[82, 761], 32], list(patch_index_to_coordinate(82, 761, 32))]],
        "kosmos2.clean_text_and_extract_entities": [[grounded, [clean, entities]]],
    }
    report = check(table(tmp_path, rows), [f"table/{name}" for name in rows])
    assert [line.partition(":")[0] for line in report.not_compared] == ["table/shikra.plain.extract"]


@pytest.mark.parametrize("wrong", [[0.061, 0.4, 0.902, 0.91], [0.061, 0.4, 0.902]])
def test_another_box_is_a_difference(tmp_path, wrong):
    report = verify(table(tmp_path, {"shikra.norm_box_xyxy": [[[[12.25, 40.0, 180.5, 90.0], 200, 100], wrong]]}))
    assert not report.passed
