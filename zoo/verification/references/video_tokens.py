"""Original code of video methods that choose or merge tokens: Chat-UniVi, from features to the projected tokens."""

import torch
from torch import Tensor

from zoo.connectors import ConnectorContext
from zoo.connectors.token_merging import cluster, merge
from zoo.encoders import Features
from zoo.verification.case import Case
from zoo.verification.parts import load_part
from zoo.verification.registry import part
from zoo.verification.report import Report
from zoo.weights.chat_univi import token_merging
from zoo.weights.files import open_weights
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


def _run(connector: torch.nn.Module, features: Tensor, context: ConnectorContext) -> Tensor:
    return connector(Features(tokens=features, grid=(1, features.shape[1])), context)
