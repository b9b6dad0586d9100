"""OpenFlamingo's own code: the whole model, and its two modules alone."""

import torch
from torch import Tensor

from zoo.connectors import Resampler
from zoo.connectors.resampler import PerceiverResampler
from zoo.errors import ZooError
from zoo.fusion import GatedCrossAttention, SoftTokens
from zoo.fusion.gated import Reading as MediaReading
from zoo.fusion.gated import Routing
from zoo.fusion.gated_cross_attention import GatedBlock
from zoo.model import VLM
from zoo.verification.case import Case
from zoo.verification.inputs import blank_batch, make_batch
from zoo.verification.parts import load_part
from zoo.verification.registry import Arguments, Reading, part, whole_model
from zoo.verification.report import Report
from zoo.weights.files import open_weights
from zoo.weights.openflamingo import BLOCK_NAMES, RESAMPLER_NAMES


# Its forward runs the tower without gradient.
@whole_model("open_flamingo.src.flamingo.Flamingo", soft_tokens=("resampled",), frozen=("encoder",))
def images_beside_text(arguments: Arguments, model: VLM, case: Case) -> Reading:
    """``vision_x`` (rows, media, frames, 3, size, size); the id ``media`` of the config marks where each begins."""
    ids, pixels = arguments.require("lang_x"), arguments.require("vision_x")
    rows, num_media, num_frames = pixels.shape[:3]
    if "media" not in case.config:
        raise ZooError(f"{case.folder / 'config.json'} has no media, the id that marks an image; write it there")
    batch = make_batch(
        model,
        ids=ids,
        attention_mask=arguments.get("attention_mask"),
        labels=arguments.get("labels"),
        frames=pixels.flatten(0, 2),
        num_frames=(num_frames,) * (rows * num_media),
        is_video=(False,) * (rows * num_media),
        media_seen=_newest(ids == case.config["media"], num_media),
    )
    return Reading(batch=batch)


def _newest(begins: Tensor, num_media: int) -> Tensor:
    """1 + the number, in the batch, of the newest medium at each position of rows with ``num_media`` each."""
    count = begins.long().cumsum(1)
    before = torch.arange(len(begins))[:, None] * num_media
    return (count + before).masked_fill(count == 0, 0)


@part("open_flamingo.src.helpers")
def modules(case: Case, report: Report) -> None:
    """Resampler and gated block; media (rows, media, frames, features, dim), text (rows, length, dim)."""
    weights, config = open_weights(case.folder), case.config
    sizes = config["perceiver"]
    resampler = PerceiverResampler(
        sizes["dim"],
        sizes["dim"],
        Resampler(
            num_latents=sizes["num_latents"],
            depth=sizes["depth"],
            num_heads=sizes["heads"],
            head_dim=sizes["dim_head"],
            num_frame_embeddings=len(weights["perceiver.frame_embs"]) if "perceiver.frame_embs" in weights else 0,
        ),
    )
    layers = [
        (f"perceiver.layers.{number}.{theirs}", f"layers.{number}.{ours}")
        for number in range(sizes["depth"])
        for theirs, ours in RESAMPLER_NAMES
    ]
    layers += [("perceiver.frame_embs", "frame_embeddings"), ("perceiver.", "")]
    load_part(resampler, weights, layers, where=case.folder)
    sizes = config["cross"]
    settings = GatedCrossAttention(num_heads=sizes["heads"], head_dim=sizes["dim_head"])
    block = GatedBlock(sizes["dim"], sizes["dim_visual"], settings)
    names = [(f"gated_cross_attn_layer.{theirs}", ours) for theirs, ours in BLOCK_NAMES]
    load_part(block, weights, names, where=case.folder)

    features, text = case.input("main", "vision_features"), case.input("main", "text")
    begins = case.input("main", "media_locations").bool()
    with torch.no_grad():
        soft = resampler.resample(features.flatten(0, 1))
    report.compare("main", "resampled", soft)
    rule = "immediate" if config["immediate"] else "all_previous"
    rows, num_media = features.shape[:2]
    length = text.shape[1]
    seen = _newest(begins, num_media)
    # Without marks every position reads all media of its row.
    everything = Routing(
        positions=torch.arange(rows * length),
        slots=torch.arange(rows * length),
        num_slots=length,
        media=torch.arange(rows * num_media).view(rows, num_media),
    )
    _compare_block(report, "main", block, text, soft, _routing(soft, seen, rule))
    if "no_locations" in case.probes:
        _compare_block(report, "no_locations", block, text, soft, everything)
    if "cached" in case.probes:
        # A step of generation reads what the prompt's last position did.
        step = case.input("cached", "text")
        last = seen.amax(1, keepdim=True).expand(step.shape[:2])
        _compare_block(report, "cached", block, step, soft, _routing(soft, last, rule))


def _routing(soft: Tensor, seen: Tensor, rule: str) -> Routing:
    media = SoftTokens(media=soft.flatten(0, 1), counts=(soft.shape[1],) * len(soft))
    return MediaReading(media, blank_batch(seen.shape, media_seen=seen), rule, False).routing(
        len(seen), 0, seen.shape[1]
    )


@torch.no_grad()
def _compare_block(report: Report, probe: str, block: GatedBlock, text: Tensor, soft: Tensor, routing: Routing) -> None:
    report.compare(probe, "cross_attn_out", block.attention(text, soft, None, routing))
    report.compare(probe, "gated_out", block(text, soft, None, routing))
