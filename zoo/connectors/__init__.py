"""Connectors: from vision features to soft tokens of the language model's width."""

from zoo.connectors.anyres import AnyResolutionMLP
from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.connectors.concatenation import Concatenation
from zoo.connectors.context_content import ContextContent
from zoo.connectors.latent_queries import LatentQueries
from zoo.connectors.mean_and_patches import MeanAndPatches
from zoo.connectors.mlp import MLP, Linear
from zoo.connectors.pooling import SpatioTemporalPooling
from zoo.connectors.position_resampler import PositionResampler
from zoo.connectors.qformer import QFormer
from zoo.connectors.region import GPT4RoI
from zoo.connectors.resampler import Resampler
from zoo.connectors.token_merging import TokenMerging
from zoo.connectors.video_qformer import VideoQFormer

__all__ = [
    "MLP",
    "AnyResolutionMLP",
    "Concatenation",
    "Connector",
    "ConnectorConfig",
    "ConnectorContext",
    "ContextContent",
    "GPT4RoI",
    "LatentQueries",
    "Linear",
    "MeanAndPatches",
    "PositionResampler",
    "QFormer",
    "Resampler",
    "SpatioTemporalPooling",
    "TokenMerging",
    "VideoQFormer",
]
