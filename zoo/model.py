"""The only model class: encoder -> connector -> fusion -> language model."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from zoo.config import PARTS
from zoo.connectors import Connector, ConnectorContext
from zoo.data.batch import Batch, Preprocessor, shifted_labels
from zoo.data.encode import IGNORED_LABEL
from zoo.definition import Method
from zoo.encoders import VisionEncoder
from zoo.fusion import Fusion
from zoo.language import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Output:
    """logits (rows, length, vocabulary); loss_sum: cross entropy summed over the supervised tokens, in float32."""

    logits: Tensor
    loss_sum: Tensor
    num_supervised: int


class VLM(nn.Module):
    """A vision-language model of four parts. ``encoder`` and ``connector`` are None for a blind method."""

    def __init__(
        self,
        method: Method,
        *,
        encoder: VisionEncoder | None,
        connector: Connector | None,
        fusion: Fusion,
        language_model: LanguageModel,
    ) -> None:
        super().__init__()
        self.method = method
        self.encoder = encoder
        self.connector = connector
        self.fusion = fusion
        self.language_model = language_model

    @property
    def device(self) -> torch.device:
        return next(self.language_model.parameters()).device

    def parts(self) -> Iterator[tuple[str, nn.Module]]:
        """(name, module) of the parts that this method has."""
        for name in PARTS:
            if (module := getattr(self, name)) is not None:
                yield name, module

    def num_media_tokens(self, num_frames: Sequence[int]) -> list[int]:
        """Soft tokens of each medium in the prompt, from its number of frames."""
        return self.connector.num_tokens(num_frames) if self.connector is not None else [0] * len(num_frames)

    def preprocessor(self) -> Preprocessor:
        """What turns samples into this model's inputs."""
        return Preprocessor(
            tokenizer=self.language_model.tokenizer,
            transform=self.encoder.transform if self.encoder is not None else None,
            num_media_tokens=self.connector.num_tokens if self.connector is not None else _no_tokens,
            box_codec=self.method.box_codec,
        )

    def soft_tokens(self, frames: Tensor, num_frames: Sequence[int]) -> Tensor:
        """frames (frames, 3, size, size) -> (total soft tokens, dim)."""
        assert self.encoder is not None and self.connector is not None
        trainable = any(parameter.requires_grad for parameter in self.encoder.parameters())
        with nullcontext() if trainable else torch.no_grad():
            features = self.encoder(frames.to(next(self.encoder.parameters()).dtype))
        return self.connector(features, ConnectorContext(num_frames=num_frames))

    def input_embeddings(self, batch: Batch) -> Tensor:
        """(rows, length, dim), soft tokens included."""
        embeddings = self.language_model.embed(batch.ids)
        if self.encoder is None:
            return embeddings
        if batch.frames is None:
            if not (self.training and torch.is_grad_enabled()):
                return embeddings
            # Every rank has to run the same modules in every step, or data-parallel training hangs on text-only rows.
            size = self.encoder.image_size
            blank = embeddings.new_zeros(1, 3, size, size)
            return embeddings + 0.0 * self.soft_tokens(blank, [1]).sum().to(embeddings.dtype)
        return self.fusion(embeddings, self.soft_tokens(batch.frames, batch.num_frames), batch)

    def forward(self, batch: Batch) -> Output:
        """Logits and summed loss of a padded or packed batch."""
        mask = batch.attention_mask
        if batch.documents is not None:
            mask = _document_mask(batch.documents)
        logits = self.language_model.model(
            inputs_embeds=self.input_embeddings(batch),
            attention_mask=mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).logits
        targets = shifted_labels(batch)
        supervised = targets != IGNORED_LABEL
        # Positions without a label are left out before the cast: float32 logits of a whole row are the largest tensor.
        losses = functional.cross_entropy(logits[:, :-1][supervised].float(), targets[supervised], reduction="sum")
        return Output(logits=logits, loss_sum=losses, num_supervised=int(supervised.sum()))

    @torch.no_grad()
    def score(self, batch: Batch) -> list[Tensor]:
        """Log-probability of every supervised token, one float32 tensor a row of a padded batch."""
        assert batch.documents is None, "scoring takes one sample a row"
        logits = self.forward(batch).logits
        targets = shifted_labels(batch)
        log_probabilities = logits[:, :-1].float().log_softmax(-1)
        picked = log_probabilities.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return [row[keep] for row, keep in zip(picked, targets != IGNORED_LABEL)]

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, max_new_tokens: int, stop_ids: Sequence[int], **options: object
    ) -> list[list[int]]:
        """Greedy continuation (transformers' generate; ``options`` go to it) of a left-padded batch.

        Returns the new ids of each row, up to and without the first stop id.
        """
        assert bool(batch.attention_mask[:, -1].all()), "generation needs left padding"
        # A released checkpoint without tokenizer files can still continue ids; any id fills rows that have ended.
        pad_id = self.language_model.model.config.pad_token_id
        new_ids = self.language_model.model.generate(
            inputs_embeds=self.input_embeddings(batch),
            attention_mask=batch.attention_mask.long(),
            max_new_tokens=max_new_tokens,
            eos_token_id=list(stop_ids),
            pad_token_id=stop_ids[0] if pad_id is None else pad_id,
            **{"do_sample": False, "num_beams": 1, **options},
        )
        stops = set(stop_ids)
        answers = []
        for row in new_ids.tolist():
            end = next((i for i, token in enumerate(row) if token in stops), len(row))
            answers.append(row[:end])
        return answers


def _no_tokens(num_frames: Sequence[int]) -> list[int]:
    return [0] * len(num_frames)


def _document_mask(documents: Tensor) -> Tensor:
    """(rows, 1, length, length), True where a position may look: back, within its document.

    Padding sees itself: a row of the softmax without any key would be undefined.
    """
    same = documents[:, :, None] == documents[:, None, :]
    length = documents.shape[1]
    return (same & same.new_ones(length, length).tril())[:, None]
