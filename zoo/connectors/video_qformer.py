"""Video-LLaMA's connector: a Q-Former reads each frame, a second one reads the frames in their order."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.connectors.qformer_body import Float32LayerNorm, QFormerBody, initialise
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class VideoQFormer(ConnectorConfig):
    """A LayerNorm and a Q-Former for each frame, to whose tokens an embedding of the frame's number is added; a small
    Q-Former with cross-attention in every layer over the tokens of all frames; one linear layer. An image is a video of
    one frame, as published.

    Source: Video-LLaMA (Zhang et al., 2023), section 2.1; video_llama/models/video_llama.py,
    ``encode_videoQformer_visual``. Published sizes are BERT-base's.

    Args:
        num_frame_queries: tokens of a frame.
        num_queries: soft tokens of a video, or of an image.
        max_frames: rows of the frame position embedding, and the most frames that a video can have.
        num_layers: of the Q-Former that reads single frames.
        num_video_layers: of the one that reads them all.
        intermediate: hidden width of the MLPs; None is four times the width.
        norm_epsilon: of the LayerNorm over the features.
        initial: a BLIP-2 checkpoint whose Q-Former reads the single frames.
    """

    kind: str = "video_qformer"
    num_frame_queries: int = 32
    num_queries: int = 32
    max_frames: int = 32
    width: int = 768
    num_layers: int = 12
    num_video_layers: int = 2
    num_heads: int = 12
    intermediate: int | None = None
    dropout: float = 0.1
    norm_epsilon: float = 1e-5
    initial: str = ""

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "VideoQFormerConnector":
        return VideoQFormerConnector(self, dim_in, dim_out)


class VideoQFormerConnector(Connector):
    """``num_queries`` soft tokens for each medium, whatever its number of frames.

    ``frame`` and ``norm`` are what BLIP-2 brings, frozen in the paper; ``positions``, ``video`` and ``projection`` are
    trained.
    """

    initial_names = MappingProxyType({"norm.": "norm.", "frame.": "body."})

    def __init__(self, config: VideoQFormer, dim_in: int, dim_out: int) -> None:
        super().__init__()
        common = {
            "dim": config.width,
            "num_heads": config.num_heads,
            "intermediate": config.intermediate,
            "dropout": config.dropout,
        }
        self.norm = Float32LayerNorm(dim_in, eps=config.norm_epsilon)
        self.frame = QFormerBody(
            dim_in,
            num_queries=config.num_frame_queries,
            num_layers=config.num_layers,
            cross_attention_every=2,
            **common,
        )
        self.positions = nn.Embedding(config.max_frames, config.width)
        self.video = QFormerBody(
            config.width,
            num_queries=config.num_queries,
            num_layers=config.num_video_layers,
            cross_attention_every=1,
            **common,
        )
        initialise(self.positions, config.width)
        self.projection = nn.Linear(config.width, dim_out)

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        """Raises ZooError for more frames than the position table has rows."""
        limit = self.positions.num_embeddings
        if num_frames and max(num_frames) > limit:
            raise ZooError(
                f"a video of {max(num_frames)} frames has more than connector.max_frames {limit}, the rows of the "
                "frame position embedding; set frames.num_frames to at most that, or raise it"
            )
        return [self.video.num_queries] * len(num_frames)

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        """(frames, tokens, dim_in) -> (media * num_queries, dim_out)."""
        tokens = self.frame(self.norm(features.tokens))  # (frames, frame queries, width)
        counts = torch.as_tensor(context.num_frames, device=tokens.device)
        present = torch.arange(int(counts.max()), device=tokens.device) < counts[:, None]  # (media, most frames)
        padded = tokens.new_zeros(*present.shape, *tokens.shape[1:])
        padded[present] = tokens
        padded = padded + self.positions.weight[: present.shape[1], None]
        mask = None if bool(present.all()) else present.repeat_interleave(tokens.shape[1], dim=1)
        queries = self.video(padded.flatten(1, 2), features_mask=mask)  # (media, queries, width)
        return self.projection(queries).flatten(0, 1)
