"""From the data spec of a stage to samples: a file, shards, or the synthetic scenes."""

from typing import Any
from urllib.parse import parse_qsl

from zoo.data.pictures.source import PICTURES, PictureSource
from zoo.data.scenes import SceneSource
from zoo.data.sources import open_source
from zoo.errors import ZooError, nearest

SCENES = "scenes"

# Published data sets have to be fetched by the user under their own licences; the name says which file is meant.
PUBLISHED = {
    "llava-558k": "blip_laion_cc_sbu_558k.json of liuhaotian/LLaVA-Pretrain",
    "llava-665k": "llava_v1_5_mix665k.json of liuhaotian/LLaVA-Instruct-150K",
    "llava-cc3m-595k": "chat.json of liuhaotian/LLaVA-CC3M-Pretrain-595K",
    "llava-instruct-158k": "llava_instruct_150k.json of liuhaotian/LLaVA-Instruct-150K",
    "video-chatgpt-100k": "VideoInstruct_100k of MBZUAI/VideoInstruct-100K in LLaVA's format, ActivityNet videos",
    "video-llama-webvid-cc595k": "WebVid-2M and LLaVA-CC3M-595K in LLaVA's format, as one file",
    "video-llama-instruct-171k": "the instructions of MiniGPT-4, LLaVA and VideoChat in LLaVA's format, as one file",
    "video-llava-1260k": "llava_image_.json and valley_.json of LanguageBind/Video-LLaVA, as one file",
    "video-llava-765k": "llava_image_tune_.json, videochatgpt_tune_.json and nlp_tune.json of LanguageBind/Video-LLaVA,"
    " as one file",
    "laion-2b": "image-text pairs of LAION-2B-en as webdataset tar shards (.jpg and .txt)",
    "blip2-129m": "COCO, Visual Genome, CC3M, CC12M, SBU and 115M pairs of LAION-400M with CapFilt captions, as shards",
    "instructblip-13": "the 13 held-in sets of InstructBLIP in LLaVA's format, as one file",
    "minigpt-4-laion-cc-sbu": "LAION, CC and SBU captions as shards, see PrepareData in Vision-CAIR/MiniGPT-4",
    "minigpt-4-cc-sbu-align": "filter_cap.json of Vision-CAIR/cc_sbu_align in LLaVA's format",
    "mmc4": "docs_no_face_shard_*_v2.jsonl of allenai/mmc4, images by image_name, or shards of it with image_base64",
    "mimic-it": "a *_instructions.json of pufanyi/MIMICIT as chat records, images by path",
    "idefics-instruct": "the mixture of IDEFICS's instructed models, which was not released as one; give chat records",
    "obelics": "HuggingFaceM4/OBELICS as JSON lines of texts and images, the addresses replaced by paths",
}


def open_data(spec: str, *, media_root: str | None = None) -> Any:
    """Samples by spec: ``scenes:KIND?num_samples=N&seed=S&image_size=P&tasks=A,B&weights=KIND:SHARE,KIND:SHARE``,
    ``pictures:KIND?num_samples=N&seed=S&weights=...`` (of the assets of ``zoo assets``), or a path of
    ``zoo.data.sources``.

    Returns a map-style source, or an iterable one for tar shards.

    Raises:
        ZooError: unknown kind or option, or a published data set that has to be given as a file.
    """
    if spec in PUBLISHED:
        raise ZooError(f"data {spec!r} is {PUBLISHED[spec]}; download it and pass --data STAGE=FILE (--media-root DIR)")
    family, _, rest = spec.partition(":")
    if family not in (SCENES, PICTURES):
        return open_source(spec, media_root=media_root)
    kind, _, query = rest.partition("?")
    options: dict[str, Any] = {"split": "train"}
    texts: dict[str, Any] = {"split": str, "tasks": lambda value: value.split(","), "weights": _weights}
    numbers = dict.fromkeys(("num_samples", "seed", "image_size", "questions_per_scene", "num_frames"), int)
    if family == PICTURES:
        texts, numbers = {"split": str, "weights": _weights}, dict.fromkeys(("num_samples", "seed"), int)
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in texts | numbers:
            raise ZooError(f"data {spec!r}: unknown option {key!r}.{nearest(key, [*texts, *numbers])}")
        if key in numbers and not value.isdigit():
            raise ZooError(f"data {spec!r}: {key} is {value!r}; give a number")
        options[key] = (texts | numbers)[key](value)
    return SceneSource(kind=kind, **options) if family == SCENES else PictureSource(kind=kind, **options)


def _weights(text: str) -> dict[str, float]:
    """``region:1,video:0.5`` as a mapping."""
    pairs = [part.partition(":") for part in text.split(",")]
    try:
        return {name: float(share) for name, _, share in pairs}
    except ValueError:
        raise ZooError(f"weights {text!r} are no list of KIND:SHARE; write weights=instruct:4,region:2") from None
