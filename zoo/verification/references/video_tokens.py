"""Original code of video methods that merge tokens or make few: Chat-UniVi and LLaMA-VID, from features on."""

import torch
from torch import Tensor, nn

from zoo.connectors import ConnectorContext, ContextContent
from zoo.connectors.token_merging import cluster, merge
from zoo.encoders import Features
from zoo.verification.case import Case
from zoo.verification.parts import load_canonical, load_part
from zoo.verification.registry import part
from zoo.verification.report import Report
from zoo.weights.chat_univi import token_merging
from zoo.weights.files import open_weights
from zoo.weights.llama_vid import LLAMA_VID_ORIGINAL, connector_sizes, content_grid
from zoo.weights.llava_like import PROJECTION


@part("Chat-UniVi")
@torch.no_grad()
def merged_tokens(case: Case, report: Report) -> None:
    """``image/features`` (images, patches, dim), ``video/features`` (frames, patches, dim); config.json has ``rates``:
    tokens of each step, then that of events.
    """
    weights = open_weights(case.folder)
    *spatial, temporal = case.config["rates"]
    rates = {f"spatial_cluster_rate{step}": rate for step, rate in enumerate(spatial)}
    config = token_merging(rates | {"temporal_cluster_rate": temporal}, where=case.folder)
    dim_out, dim_in = weights[f"{PROJECTION}weight"].shape
    for probe in case.probes:
        features = case.input(probe, "features")
        num_patches = features.shape[1]
        connector = config.build(dim_in=dim_in, dim_out=dim_out, grid=(1, num_patches), num_features=num_patches)
        load_part(connector, weights, [(PROJECTION, "projection.")], where=case.folder)
        is_video = probe.startswith("video")
        num_frames = (len(features),) if is_video else (1,) * len(features)
        soft = _run(
            connector, features, ConnectorContext(num_frames=num_frames, is_video=(is_video,) * len(num_frames))
        )
        report.compare(probe, "projected", soft.unflatten(0, (len(num_frames), -1)))
        first = cluster(features, config.num_clusters[0], config.neighbours[0])
        report.compare(probe, "cluster_index", first)
        report.compare(probe, "merged", merge(features, first))


def _run(connector: nn.Module, features: Tensor, context: ConnectorContext) -> Tensor:
    return connector(Features(tokens=features, grid=(1, features.shape[1])), context)


class _Connector(nn.Module):
    """A connector under its canonical names."""

    def __init__(self, connector: nn.Module) -> None:
        super().__init__()
        self.connector = connector


@part("LLaMA-VID")
@torch.no_grad()
def context_and_content(case: Case, report: Report) -> None:
    """``image_features`` (frames, tokens, dim), class token first where the number of tokens is odd. ``image_counts``:
    frames of each video, one for each where it is missing; ``prompt_ids.N``, ``prompt_mask.N`` (prompts, length): the
    texts beside video N, each of which gives a row of tokens.
    """
    weights, sizes = open_weights(case.folder), case.config
    features, inputs = case.input("main", "image_features"), case.probes["main"].inputs
    num_features, dim_in = features.shape[1:]
    side = int((num_features - num_features % 2) ** 0.5)
    fields = connector_sizes(weights) | {"num_heads": sizes["q"]["heads"]}
    connector = ContextContent(
        content_grid=content_grid(sizes.get("compress"), where=case.folder / "config.json"), **fields
    ).build(
        dim_in=dim_in,
        dim_out=len(weights["model.vlm_att_val_projector.weight"]),
        grid=(side, side),
        num_features=num_features,
    )
    load_canonical(_Connector(connector), weights, LLAMA_VID_ORIGINAL, where=case.folder)
    report.layout = LLAMA_VID_ORIGINAL.name
    counts = inputs["image_counts"].tolist() if "image_counts" in inputs else [1] * len(features)
    for number, frames in enumerate(features.split(counts)):
        rows = []
        ids, mask = (case.input("main", f"{name}.{number}") for name in ("prompt_ids", "prompt_mask"))
        for row in range(len(ids)):
            context = ConnectorContext(
                num_frames=(len(frames),),
                is_video=(True,),
                instruction_ids=ids[row : row + 1],
                instruction_mask=mask[row : row + 1].bool(),
            )
            rows.append(_run(connector, frames, context))
        report.compare("main", f"tokens.{number}", torch.stack(rows))
