"""``zoo verify`` on folders written here from transformers' classes, in other shapes than any published checkpoint."""

import pytest
import torch
import transformers
from cases import write_case, write_gradients
from tiny import fill

from zoo.verification import verify

IMAGE, VIDEO, PAD, VOCABULARY = 90, 91, 0, 96
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 20,
    "patch_size": 10,
    "projection_dim": 16,
}
SIGLIP = {key: value for key, value in CLIP.items() if key != "projection_dim"} | {"model_type": "siglip_vision_model"}
EVA = {key: value for key, value in SIGLIP.items() if key != "model_type"} | {"qkv_bias": True}
QFORMER = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "encoder_hidden_size": 24,
    "max_position_embeddings": 32,
}
OPT = {
    "model_type": "opt",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
    "word_embed_proj_dim": 32,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
T5 = {
    "model_type": "t5",
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
    "decoder_start_token_id": PAD,
    "pad_token_id": PAD,
    "eos_token_id": 2,
}
GENERATE = {"max_new_tokens": 6}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows(*texts, left=False):
    """Ids of several lengths as one tensor, and which of them are real."""
    length = max(map(len, texts))
    padded = [[PAD] * (length - len(t)) + t if left else t + [PAD] * (length - len(t)) for t in texts]
    ids = torch.tensor(padded)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def labelled(text, *, num_last):
    """The last real tokens of each row are to be learned."""
    counted = text["attention_mask"].flip(1).cumsum(1).flip(1)
    learned = (text["attention_mask"] == 1) & (counted <= num_last)
    return text | {"labels": text["input_ids"].masked_fill(~learned, -100)}


def model_of(name, **config):
    model_class = getattr(transformers, name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # Weights large enough for answers that differ, and none neutral.
        return fill(model_class(model_class.config_class(**config)), 0.15)


def check(folder, *, outputs, method, gradients=True):
    """All of these outputs were compared, all are equal."""
    report = verify(folder, gradients=gradients)
    print(report.render())
    found = {f"{difference.probe}/{difference.output}" for difference in report.differences}
    assert set(outputs) <= found, found
    assert report.passed
    assert report.method == f"method {method}"


LLAVA = {
    "grouped_queries_left_padded": {"text_config": {"model_type": "llama", **TEXT, "rms_norm_eps": 1e-3}},
    "qwen2_sigmoid_tower": {
        "text_config": {"model_type": "qwen2", **TEXT, "rope_theta": 5e4},
        "vision_config": {**SIGLIP, "layer_norm_eps": 1e-3},
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "projector_hidden_act": "gelu_pytorch_tanh",
    },
    "class_token_other_layer": {
        "text_config": {"model_type": "mistral", **TEXT, "sliding_window": None},
        "vision_feature_layer": 1,
        "vision_feature_select_strategy": "full",
    },
    "layers_side_by_side": {"text_config": {"model_type": "llama", **TEXT}, "vision_feature_layer": [-1, -3]},
}


@pytest.mark.parametrize("variant", LLAVA)
def test_llava(variant, tmp_path):
    """Several images and turns in a row, a row of text alone, padding on either side."""
    config = {"vision_config": {**CLIP, "hidden_act": "quick_gelu"}, "image_token_index": IMAGE} | LLAVA[variant]
    model = model_of("LlavaForConditionalGeneration", **config)
    is_full = config.get("vision_feature_select_strategy") == "full"
    image = [IMAGE] * (5 if is_full and config["vision_config"]["model_type"] == "clip_vision_model" else 4)
    texts = [[1, 5, *image, 6, 7, *image, 8, 2], [1, 9, 10, 11], [1, *image, 12, 13, 14, 2]]
    left = variant == "grouped_queries_left_padded"
    main = labelled(rows(*texts, left=left), num_last=3) | {"pixel_values": draw(3, 3, 20, 20)}
    gen = rows(*[text[:-1] for text in texts], left=True) | {"pixel_values": draw(3, 3, 20, 20, seed=1)}
    text_only = labelled(rows([1, 5, 6, 7, 8, 9]), num_last=4)
    captures = {"projected": "model.multi_modal_projector"}
    folder = write_case(
        tmp_path, model, {"main": main, "gen": gen, "text_only": text_only}, captures=captures, generate=GENERATE
    )
    write_gradients(folder, model, main)
    outputs = {"main/logits", "main/loss", "main/projected", "gen/new_tokens", "text_only/logits"}
    check(folder, outputs=outputs, method="llava-1.5")


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("text", [OPT, T5], ids=["opt", "t5"])
def test_blip2(text, left, tmp_path):
    config = {"num_query_tokens": 3, "image_token_index": IMAGE, "qformer_config": QFORMER | {"layer_norm_eps": 1e-3}}
    config |= {"vision_config": EVA | {"layer_norm_eps": 1e-2}, "text_config": text}
    config["qformer_config"] = config["qformer_config"] | {"cross_attention_frequency": 1}
    model = model_of("Blip2ForConditionalGeneration", **config)
    image = [IMAGE] * 3
    texts = [[*image, 5, 6, 7, 8], [*image, 9, 10], [1, *image, 12, *image, 13]]
    prompt = rows(*texts, left=left)
    main = labelled(prompt, num_last=2) | {"pixel_values": draw(4, 3, 20, 20)}
    if text is T5:
        main["labels"] = torch.tensor([[20, 21, 2], [22, 2, -100], [23, 24, 25]])
    gen = rows(*texts, left=True) | {"pixel_values": draw(4, 3, 20, 20, seed=1)}
    captures = {"projected": "language_projection"}
    folder = write_case(tmp_path, model, {"main": main, "gen": gen}, captures=captures, generate=GENERATE)
    write_gradients(folder, model, main)
    outputs = {"main/logits", "main/loss", "main/projected", "gen/new_tokens"}
    check(folder, outputs=outputs, method="blip2-flan-t5" if text is T5 else "blip2")


@pytest.mark.parametrize("name", ["InstructBlipForConditionalGeneration", "InstructBlipVideoForConditionalGeneration"])
def test_instructblip(name, tmp_path):
    is_video = "Video" in name
    config = {"num_query_tokens": 3, "qformer_config": QFORMER, "vision_config": EVA}
    config |= {"text_config": {"model_type": "llama", **TEXT}}
    config |= {"video_token_index" if is_video else "image_token_index": VIDEO}
    model = model_of(name, **config)
    num_frames = 3 if is_video else 1
    medium = [VIDEO] * 3 * num_frames
    texts = [[*medium, 1, 5, 6, 7, 8, 2], [*medium, 1, 9, 2]]
    pixels = draw(2, 3, 3, 20, 20) if is_video else draw(2, 3, 20, 20)
    instruction = rows([30, 31, 32, 33], [34, 35])
    reads = {f"qformer_{key}": value for key, value in instruction.items()} | {"pixel_values": pixels}
    main = labelled(rows(*texts), num_last=2) | reads
    gen = rows(*[text[:-1] for text in texts], left=True) | reads
    captures = {"projected": "language_projection"}
    folder = write_case(tmp_path, model, {"main": main, "gen": gen}, captures=captures, generate=GENERATE)
    write_gradients(folder, model, main)
    check(folder, outputs={"main/logits", "main/loss", "main/projected", "gen/new_tokens"}, method="instructblip")


def test_video_llava_with_images_and_videos_in_any_order(tmp_path):
    config = {"vision_config": CLIP, "text_config": {"model_type": "llama", **TEXT}, "vision_feature_layer": -2}
    model = model_of("VideoLlavaForConditionalGeneration", **config, image_token_index=IMAGE, video_token_index=VIDEO)
    image, video = [IMAGE] * 4, [VIDEO] * 10
    texts = [[1, *video, 5, 6, *image, 7, 2], [1, *image, 8, 9, *image, 10, 11, 2], [1, 12, *video, 13, 14, 15, 2]]
    pixels = {"pixel_values_images": draw(3, 3, 20, 20), "pixel_values_videos": draw(2, 2, 3, 20, 20, seed=1)}
    main = labelled(rows(*texts), num_last=3) | pixels
    gen = rows(*texts, left=True) | pixels
    folder = write_case(tmp_path, model, {"main": main, "gen": gen}, generate=GENERATE)
    write_gradients(folder, model, main)
    check(folder, outputs={"main/logits", "main/loss", "gen/new_tokens"}, method="video-llava")


@pytest.mark.parametrize("left", [False, True])
def test_kosmos_2(left, tmp_path):
    text = {"vocab_size": VOCABULARY, "embed_dim": 32, "layers": 3, "ffn_dim": 48, "attention_heads": 4}
    text |= {"max_position_embeddings": 64, "layer_norm_eps": 1e-3, "pad_token_id": 1, "eos_token_id": 2}
    vision = {key: value for key, value in CLIP.items() if key not in ("model_type", "projection_dim")}
    model = model_of("Kosmos2ForConditionalGeneration", text_config=text, vision_config=vision, latent_query_num=3)
    image = [IMAGE] * 3
    ids = torch.tensor(
        [[0, *image, 5, 6, 7, 8, 2], [1, 1, 0, *image, 9, 10, 2] if left else [0, *image, 9, 10, 2, 1, 1]]
    )
    main = labelled({"input_ids": ids, "attention_mask": (ids != 1).long()}, num_last=3)
    main |= {"pixel_values": draw(2, 3, 20, 20), "image_embeds_position_mask": (ids == IMAGE).long()}
    # The class's own generation numbers the new tokens of a padded row otherwise than its prompt.
    gen = {key: value[:1, :-1] if value.ndim == 2 else value[:1] for key, value in main.items() if key != "labels"}
    captures = {"projected": "image_to_text_projection"}
    folder = write_case(tmp_path, model, {"main": main, "gen": gen}, captures=captures, generate=GENERATE)
    write_gradients(folder, model, main)
    check(folder, outputs={"main/logits", "main/loss", "main/projected", "gen/new_tokens"}, method="kosmos-2")


IDEFICS = {
    "every_layer_vector_gates": {"cross_layer_interval": 1, "alpha_type": "vector", "additional_vocab_size": 0},
    "plain_queries": {"cross_layer_interval": 2, "qk_layer_norms": False, "additional_vocab_size": 0},
    "added_vocabulary": {"cross_layer_interval": 2, "qk_layer_norms": True, "additional_vocab_size": 3},
}


@pytest.mark.parametrize("variant", IDEFICS)
def test_idefics(variant, tmp_path):
    vision = {"embed_dim": 24, "image_size": 20, "patch_size": 10, "num_hidden_layers": 2, "num_attention_heads": 2}
    perceiver = {"resampler_n_latents": 3, "resampler_depth": 2, "resampler_n_heads": 2, "resampler_head_dim": 5}
    fields = {key: value for key, value in TEXT.items() if key != "num_key_value_heads"} | {"num_hidden_layers": 4}
    fields |= {"freeze_text_layers": False, "freeze_vision_layers": False}
    fields |= {"perceiver_config": perceiver | {"qk_layer_norms_perceiver": "plain" not in variant}}
    fields |= {"vision_config": vision | {"intermediate_size": 40, "hidden_act": "gelu"}, "use_resampler": True}
    model = model_of("IdeficsForVisionText2Text", **fields, **IDEFICS[variant], rms_norm_eps=1e-4)
    texts = [[1, 5, 6, 7, 8, 9, 10, 2], [1, 11, 12, 13, 14, 2]]
    main, gen = rows(*texts), rows(*texts, left=True)
    if not IDEFICS[variant]["additional_vocab_size"]:
        # The class's own loss raises where there is additional vocabulary.
        main = labelled(main, num_last=4)
    for probe in (main, gen):
        starts = torch.tensor([[1, 4], [2, 99]]) + (probe["attention_mask"] == 0).sum(1)[:, None] * (probe is gen)
        newest = (torch.arange(8)[None, :, None] >= starts[:, None]).sum(-1)
        probe["image_attention_mask"] = torch.nn.functional.one_hot(newest, 4)[..., 1:]
        probe["pixel_values"] = draw(2, 3, 3, 20, 20)
    captures = {"resampled": "model.perceiver_resampler"}
    folder = write_case(tmp_path, model, {"main": main, "gen": gen}, captures=captures, generate=GENERATE)
    outputs = {"main/logits", "main/resampled", "gen/new_tokens"}
    if "labels" in main:
        outputs |= {"main/loss"}
        write_gradients(folder, model, main)
    check(folder, outputs=outputs, method="idefics", gradients="labels" in main)


PINPOINTS = [[20, 40], [40, 20], [40, 40], [20, 60]]
SIZES = torch.tensor([[30, 70], [64, 20], [33, 31]])  # (height, width): cut into 1 x 2 or 1 x 3, 2 x 1 and 2 x 2 tiles


def image_length(height, width, *, side):
    """Soft tokens of one of these images: a map of side x side patches and the unpadded map of its tiles."""
    rows, columns = next(grid for size, grid in GRIDS.items() if size == (height, width))
    map_rows, map_columns = rows * side, columns * side
    if width / height > map_columns / map_rows:
        kept = int(round(height * map_columns / width, 7))
        map_rows -= 2 * ((map_rows - kept) // 2)
    else:
        kept = int(round(width * map_rows / height, 7))
        map_columns -= 2 * ((map_columns - kept) // 2)
    return side**2 + map_rows * (map_columns + 1)


GRIDS = {(30, 70): (1, 3), (64, 20): (2, 1), (33, 31): (2, 2)}


@pytest.mark.parametrize("name", ["LlavaNext", "LlavaNextVideo", "LlavaOnevision"])
def test_tiles_and_videos(name, tmp_path):
    """Images of three grids, two of them in a row, and a video of three frames."""
    side = 2
    tower = SIGLIP if name == "LlavaOnevision" else CLIP
    config = {"vision_config": tower, "text_config": {"model_type": "llama", **TEXT}, "image_token_index": IMAGE}
    config |= {"image_grid_pinpoints": PINPOINTS}
    if name != "LlavaNext":
        config |= {"video_token_index": VIDEO}
    if name == "LlavaOnevision":
        config |= {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}
    model = model_of(f"{name}ForConditionalGeneration", **config)
    first, second, third = ([IMAGE] * image_length(*size, side=side) for size in SIZES.tolist())
    texts = [[1, *first, 5, *second, 6, 7, 8, 2], [1, 9, *third, 10, 11, 2]]
    media = {"pixel_values": draw(3, 5, 3, 20, 20), "image_sizes": SIZES}
    if name != "LlavaNext":
        num_video = {"LlavaNextVideo": 3, "LlavaOnevision": 3 + 1}[name]
        texts[1] += [VIDEO] * num_video + [12, 13, 2]
        media |= {"pixel_values_videos": draw(1, 3, 3, 20, 20, seed=1)}
    main = labelled(rows(*texts), num_last=3) | media
    gen = rows(*texts, left=True) | media
    folder = write_case(tmp_path, model, {"main": main, "gen": gen}, generate=GENERATE)
    write_gradients(folder, model, main)
    method = {"LlavaNext": "llava-next", "LlavaNextVideo": "llava-next-video", "LlavaOnevision": "llava-onevision"}
    check(folder, outputs={"main/logits", "main/loss", "gen/new_tokens"}, method=method[name])


def test_vip_llava_reads_several_layers(tmp_path):
    layers = [-2, 1, 0]
    config = {"vision_config": CLIP, "text_config": {"model_type": "llama", **TEXT}, "image_token_index": IMAGE}
    model = model_of(
        "VipLlavaForConditionalGeneration", **config, vision_feature_layers=layers, projector_layernorm_eps=1e-3
    )
    image = [IMAGE] * 4
    texts = [[1, *image, 5, *image, 6, 2], [1, 7, *image, 8, 9, 2]]
    main = labelled(rows(*texts), num_last=2) | {"pixel_values": draw(3, 3, 20, 20)}
    gen = rows(*texts, left=True) | {"pixel_values": draw(3, 3, 20, 20, seed=2)}
    captures = {"projected": "model.multi_modal_projector"}
    folder = write_case(tmp_path, model, {"main": main, "gen": gen}, captures=captures, generate=GENERATE)
    write_gradients(folder, model, main)
    check(folder, outputs={"main/logits", "main/loss", "main/projected", "gen/new_tokens"}, method="vip-llava")


@pytest.mark.parametrize(("left", "groups"), [(False, 1), (True, 2)])
def test_paligemma(left, groups, tmp_path):
    """Several images in a row, a prefix that ends before the labels, padding on either side."""
    text = TEXT | {"model_type": "gemma", "head_dim": 12, "num_key_value_heads": groups, "rms_norm_eps": 1e-3}
    vision = SIGLIP | {"vision_use_head": False, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-3}
    model = model_of(
        "PaliGemmaForConditionalGeneration",
        text_config=text,
        vision_config=vision,
        projection_dim=32,
        hidden_size=32,
        image_token_index=IMAGE,
    )
    image = [IMAGE] * 4
    texts = [[*image, 1, 5, 6, 7, 8, 2], [*image, *image, 1, 9, 10, 11, 12, 2]]
    main = labelled(rows(*texts, left=left), num_last=2) | {"pixel_values": draw(3, 3, 20, 20)}
    # One more than is learned: the first word of an answer can be given.
    suffix = (main["labels"] != -100) | (main["labels"].roll(-1, 1) != -100)
    main["token_type_ids"] = suffix.long()
    gen = rows(*[t[:-3] for t in texts], left=True) | {"pixel_values": draw(3, 3, 20, 20, seed=1)}
    gen["token_type_ids"] = torch.zeros_like(gen["input_ids"])
    captures = {"projected": "model.multi_modal_projector"}
    folder = write_case(tmp_path, model, {"main": main, "gen": gen}, captures=captures, generate=GENERATE)
    write_gradients(folder, model, main)
    check(folder, outputs={"main/logits", "main/loss", "main/projected", "gen/new_tokens"}, method="paligemma")


@pytest.mark.parametrize("left", [False, True])
def test_florence_2(left, tmp_path):
    """Other depths, windows and widths than published; several images in a row; rows of labels of several lengths."""
    vision = {"depths": [1, 2, 1], "embed_dim": [8, 12, 24], "num_heads": [2, 3, 4], "num_groups": [2, 2, 3]}
    vision |= {"patch_size": [5, 3, 3], "patch_stride": [2, 2, 2], "patch_padding": [2, 1, 1], "window_size": 3}
    vision |= {"patch_prenorm": [False, True, False], "projection_dim": 32, "drop_path_rate": 0.0, "mlp_ratio": 2.0}
    vision |= {"max_position_embeddings": 6, "max_temporal_embeddings": 4}
    text = {"model_type": "bart", "vocab_size": VOCABULARY, "d_model": 32, "max_position_embeddings": 64}
    text |= {"encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 2}
    text |= {"encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "scale_embedding": True, "dropout": 0.0}
    text |= {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    text |= {"forced_eos_token_id": None}
    model = model_of("Florence2ForConditionalGeneration", vision_config=vision, text_config=text, image_token_id=IMAGE)
    image = [IMAGE] * (3 * 3 + 1)
    texts = [[*image, 1, 5, 6, 7, 2], [*image, *image, 1, 9, 2]]
    pixels = {"pixel_values": draw(3, 3, 24, 24)}
    main = rows(*texts, left=left) | pixels | {"labels": torch.tensor([[20, 21, 22, 2], [23, 2, -100, -100]])}
    gen = rows(*texts, left=True) | pixels
    captures = {"projected": "model.multi_modal_projector"}
    options = GENERATE | {"num_beams": 1}
    folder = write_case(tmp_path, model, {"main": main, "gen": gen}, captures=captures, generate=options)
    write_gradients(folder, model, main)
    check(folder, outputs={"main/logits", "main/loss", "main/projected", "gen/new_tokens"}, method="florence-2")
