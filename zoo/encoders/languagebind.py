"""LanguageBind's video tower: a CLIP tower whose blocks also attend over time, at each place of the frame.

Source: LanguageBind (Zhu et al., 2024); videollava/model/multimodal_encoder/languagebind/video in Video-LLaVA's
repository, which is trained on it. transformers' VideoLlava class has a plain CLIP tower in its place and drops the
temporal weights.
"""

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer

from zoo.errors import ZooError


class LanguageBindVideoConfig(CLIPVisionConfig):
    """CLIP's vision configuration, and the number of frames that have an embedding."""

    model_type = "languagebind_video"
    num_frames: int = 8


class TemporalLayer(CLIPEncoderLayer):
    """x + frame embedding; x + attention over the frames of LN(x); then the block of CLIP."""

    def __init__(self, config: LanguageBindVideoConfig) -> None:
        super().__init__(config)
        self.temporal_embedding = nn.Parameter(torch.empty(1, config.num_frames, config.hidden_size))
        self.temporal_attn = CLIPAttention(config)
        self.temporal_layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_frames: int = 1,
        **kwargs: object,
    ) -> torch.Tensor:
        """hidden_states (videos * num_frames, tokens, dim), the frames of a video in a row -> the same shape."""
        over_time = hidden_states.unflatten(0, (-1, num_frames)).transpose(1, 2)  # (videos, tokens, frames, dim)
        over_time = over_time + self.temporal_embedding[:, None, :num_frames]
        flat = self.temporal_layer_norm1(over_time).flatten(0, 1)
        attended, _ = self.temporal_attn(hidden_states=flat, attention_mask=None, **kwargs)
        over_time = over_time + attended.unflatten(0, over_time.shape[:2])
        hidden_states = over_time.transpose(1, 2).flatten(0, 1)
        return super().forward(hidden_states, attention_mask, **kwargs)


class LanguageBindVideoModel(CLIPVisionModel):
    """A CLIP vision tower of ``TemporalLayer``; all videos of a call have ``num_frames`` frames."""

    config_class = LanguageBindVideoConfig

    def __init__(self, config: LanguageBindVideoConfig) -> None:
        super().__init__(config)
        self.encoder.layers = nn.ModuleList(TemporalLayer(config) for _ in range(config.num_hidden_layers))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TemporalLayer):
            nn.init.normal_(module.temporal_embedding, std=self.config.hidden_size**-0.5)

    def check_num_frames(self, num_frames: int) -> None:
        """Raises ZooError for more frames than there are embeddings."""
        if num_frames > self.config.num_frames:
            raise ZooError(
                f"a video of {num_frames} frames has more than the {self.config.num_frames} frame embeddings of its "
                "encoder; set frames.num_frames to at most that"
            )
