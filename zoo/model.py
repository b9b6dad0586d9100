"""The only model class: encoder -> connector -> fusion -> language model."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from zoo.config import PARTS
from zoo.connectors import Connector, ConnectorContext
from zoo.connectors.alignment import alignment_loss
from zoo.data.batch import Batch, Preprocessor, shifted_labels
from zoo.data.encode import IGNORED_LABEL
from zoo.data.tiles import TileGrid
from zoo.definition import Method
from zoo.encoders import Features, VisionEncoder
from zoo.errors import ZooError
from zoo.fusion import Fusion, SoftTokens
from zoo.language import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Output:
    """logits (rows, length, vocabulary), over the decoder's positions for an encoder-decoder, None where only the loss
    was asked for; loss_sum: cross entropy summed over the supervised tokens, in float32.
    """

    logits: Tensor | None
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
        instruction_tokenizer: Any = None,
    ) -> None:
        super().__init__()
        self.method = method
        self.encoder = encoder
        self.connector = connector
        self.fusion = fusion
        self.language_model = language_model
        self._instruction_tokenizer = instruction_tokenizer

    @property
    def instruction_tokenizer(self) -> Any:
        """What tokenises the users' text for a connector that reads it: its own tokenizer, or the language model's."""
        return self._instruction_tokenizer or self.language_model.tokenizer

    @property
    def device(self) -> torch.device:
        return next(self.language_model.parameters()).device

    def parts(self) -> Iterator[tuple[str, nn.Module]]:
        """(name, module) of the parts that this method has."""
        for name in PARTS:
            if (module := getattr(self, name)) is not None:
                yield name, module

    def num_media_tokens(
        self,
        num_frames: Sequence[int],
        is_video: Sequence[bool] | None = None,
        tile_grids: Sequence[TileGrid | None] = (),
    ) -> list[int]:
        """Soft tokens that the language model is given of each medium, from its frames, its kind and its tiles.

        Without ``is_video``, media of several frames are videos; without ``tile_grids``, no medium was cut into tiles.
        """
        kinds = [frames > 1 for frames in num_frames] if is_video is None else is_video
        if self.connector is None:
            return [0] * len(num_frames)
        return self.connector.num_tiled_tokens(num_frames, kinds, tile_grids)

    def num_image_tokens(self, size: tuple[int, int] | None = None) -> int:
        """Soft tokens of one image of (width, height) pixels, by default a square as large as the encoder's."""
        if self.encoder is None:
            return 0
        tiled = self.encoder.tile_transform
        if tiled is None:
            return self.num_media_tokens([1], [False])[0]
        grid = tiled.grid(size or (self.encoder.image_size, self.encoder.image_size))
        return self.num_media_tokens([grid.num_frames], [False], [grid])[0]

    def preprocessor(self, objective: str = "language_modeling") -> Preprocessor:
        """What turns samples into this model's inputs, in a stage with this objective."""
        method, connector = self.method, self.method.connector
        learns_text = objective == "connector"
        reads_text = connector is not None and (connector.reads_instruction or (learns_text and connector.reads_text))
        return Preprocessor(
            tokenizer=self.language_model.tokenizer,
            transform=self.encoder.transform if self.encoder is not None else None,
            num_positions=lambda *media: self.fusion.num_positions(self.num_media_tokens(*media)),
            box_codec=method.box_codec,
            has_region_features=self.has_region_features,
            instruction_tokenizer=self.instruction_tokenizer if reads_text else None,
            instruction_role="assistant" if learns_text else "user",
            max_instruction_length=connector.max_instruction_length if connector is not None else 0,
            encoder_decoder=self.language_model.is_encoder_decoder,
            video_transform=self.encoder.video_transform if self.encoder is not None else None,
            tile_transform=self.encoder.tile_transform if self.encoder is not None else None,
            frames=method.frames,
        )

    @property
    def has_region_features(self) -> bool:
        """Whether the connector makes a soft token of a box."""
        return self.connector is not None and type(self.connector).forward_regions is not Connector.forward_regions

    def _media(self, batch: Batch) -> tuple[Features, ConnectorContext]:
        """What the connector is given of a batch with media."""
        assert self.encoder is not None and self.connector is not None and batch.frames is not None
        trainable = any(parameter.requires_grad for parameter in self.encoder.parameters())
        with nullcontext() if trainable else torch.no_grad():
            frames = batch.frames.to(next(self.encoder.parameters()).dtype)
            features = self.encoder(
                frames, levels=self.connector.levels, num_frames=batch.num_frames, is_video=batch.is_video
            )
        context = ConnectorContext(
            num_frames=batch.num_frames,
            is_video=batch.is_video,
            instruction_ids=batch.instruction_ids,
            instruction_mask=batch.instruction_mask,
            boxes=batch.boxes,
            box_media=batch.box_media,
            tile_grids=batch.tile_grids,
        )
        return features, context

    def soft_tokens(self, batch: Batch) -> SoftTokens | None:
        """Soft tokens of a batch's media and regions; None without media, or without an encoder."""
        if self.connector is None or batch.frames is None:
            return None
        features, context = self._media(batch)
        return SoftTokens(
            media=self.connector(features, context),
            counts=tuple(self.connector.num_tiled_tokens(batch.num_frames, batch.is_video, batch.tile_grids)),
            regions=self.connector.forward_regions(features, context) if batch.boxes is not None else None,
        )

    def _idle(self, batch: Batch) -> Tensor:
        """Zero, computed through all modules that ``batch`` does not need.

        Every rank has to run the same modules in every step, or data-parallel training hangs on text-only rows.
        """
        assert self.encoder is not None
        size = self.encoder.image_size
        reads_instruction = self.method.connector is not None and self.method.connector.reads_instruction
        word = torch.zeros(1, 1, dtype=torch.long, device=batch.ids.device)
        blank = replace(
            batch,
            frames=torch.zeros(1, 3, size, size, device=batch.ids.device),
            num_frames=(1,),
            is_video=(False,),
            tile_grids=(),
            instruction_ids=word if reads_instruction else None,
            instruction_mask=word == 0 if reads_instruction else None,
            boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=batch.ids.device) if self.has_region_features else None,
            box_media=word[0] if self.has_region_features else None,
        )
        soft = self.soft_tokens(blank)
        assert soft is not None
        return 0.0 * (soft.media.sum() + (soft.regions.sum() if soft.regions is not None else 0.0))

    def _inputs(self, batch: Batch) -> tuple[Tensor, SoftTokens | None]:
        """Input embeddings (rows, length, dim), and the soft tokens that the fusion may read beside them."""
        embeddings = self.language_model.embed(batch.ids)
        soft = self.soft_tokens(batch)
        if soft is not None:
            embeddings = self.fusion(embeddings, soft, batch)
        lacks_boxes = self.has_region_features and batch.boxes is None
        if self.encoder is not None and self.training and torch.is_grad_enabled() and (soft is None or lacks_boxes):
            embeddings = embeddings + self._idle(batch).to(embeddings.dtype)
        return embeddings, soft

    def input_embeddings(self, batch: Batch) -> Tensor:
        """(rows, length, dim), soft tokens included where the fusion puts them there."""
        return self._inputs(batch)[0]

    def forward(self, batch: Batch, *, with_logits: bool = True, objective: str = "language_modeling") -> Output:
        """Logits and summed loss of a padded or packed batch; the loss alone is cheaper (``with_logits`` False).

        With ``connector`` and ``contrastive`` there are no logits, and the mean loss over pairs counts as often as the
        batch has supervised tokens: the weight of a micro-batch is the same for every objective.
        """
        if objective == "connector":
            loss = self._idle(batch) if batch.frames is None else self.connector.loss(*self._media(batch))
            return Output(logits=None, loss_sum=loss * batch.num_supervised, num_supervised=batch.num_supervised)
        if objective == "contrastive":
            loss = self._contrast(batch)
            return Output(logits=None, loss_sum=loss * batch.num_supervised, num_supervised=batch.num_supervised)
        embeddings, soft = self._inputs(batch)
        targets = shifted_labels(batch)
        supervised = targets != IGNORED_LABEL
        options: dict[str, Any] = {}
        if batch.decoder_labels is not None:
            options["decoder_input_ids"] = self.language_model.shifted_right(batch.decoder_labels)
        if self.language_model.accepts("position_ids"):
            options["position_ids"] = batch.position_ids
        # The projection to the vocabulary is a good part of a step, and most positions are prompt.
        projected = nullcontext() if with_logits else self.language_model.projecting_only(supervised)
        with self.fusion.reading(soft, batch), projected:
            logits = self.language_model.model(
                inputs_embeds=embeddings,
                attention_mask=batch.attention_mask if batch.documents is None else _document_mask(batch.documents),
                use_cache=False,
                **options,
            ).logits
        # Positions without a label are left out before the cast: float32 logits of a whole row are the largest tensor.
        wanted = logits[:, : targets.shape[1]][supervised] if with_logits else logits
        losses = functional.cross_entropy(wanted.float(), targets[supervised], reduction="sum")
        num_supervised = int(supervised.sum())
        return Output(logits=logits if with_logits else None, loss_sum=losses, num_supervised=num_supervised)

    def _contrast(self, batch: Batch) -> Tensor:
        """The objective ``contrastive``, a mean over the batch's media. Raises ZooError where it has no meaning."""
        if batch.decoder_labels is not None:
            raise ZooError(f"{self.method.name}: the objective contrastive needs a causal language model")
        embeddings, soft = self._inputs(batch)
        said = (batch.labels != IGNORED_LABEL) & (batch.media_seen > 0)
        if soft is None or not said.any():
            return 0.0 * embeddings.sum()
        words = self.language_model.embed(batch.ids[said]).detach()
        if soft.media.shape[1] != words.shape[1]:
            raise ZooError(
                f"{self.method.name}: soft tokens of width {soft.media.shape[1]} cannot be compared with words of "
                f"width {words.shape[1]}; use objective: language_modeling"
            )
        # Every rank runs the same modules, whatever its batch holds (see _idle).
        return alignment_loss(soft.media, soft.counts, words, batch.media_seen[said] - 1) + 0.0 * embeddings.sum()

    @torch.no_grad()
    def score(self, batch: Batch) -> list[Tensor]:
        """Log-probability of every supervised token, one float32 tensor a row of a padded batch."""
        assert batch.documents is None, "scoring takes one sample a row"
        logits = self.forward(batch).logits
        targets = shifted_labels(batch)
        log_probabilities = logits[:, : targets.shape[1]].float().log_softmax(-1)
        picked = log_probabilities.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return [row[keep] for row, keep in zip(picked, targets != IGNORED_LABEL)]

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, max_new_tokens: int, stop_ids: Sequence[int], **options: object
    ) -> list[list[int]]:
        """Greedy continuation (transformers' generate; ``options`` go to it) of a left-padded batch.

        Returns the new ids of each row, up to and without the first stop id. For an encoder-decoder the side of the
        padding is free.
        """
        is_encoder_decoder = self.language_model.is_encoder_decoder
        assert is_encoder_decoder or bool(batch.attention_mask[:, -1].all()), "generation needs left padding"
        # A released checkpoint without tokenizer files can still continue ids; any id fills rows that have ended.
        pad_id = self.language_model.model.config.pad_token_id
        embeddings, soft = self._inputs(batch)
        with self.fusion.reading(soft, batch):
            new_ids = self.language_model.model.generate(
                inputs_embeds=embeddings,
                attention_mask=batch.attention_mask.long(),
                max_new_tokens=max_new_tokens,
                eos_token_id=list(stop_ids),
                pad_token_id=stop_ids[0] if pad_id is None else pad_id,
                **{"do_sample": False, "num_beams": 1, **options},
            )
        stops = set(stop_ids)
        answers = []
        # A decoder's first id is its start token.
        for row in new_ids[:, int(is_encoder_decoder) :].tolist():
            end = next((i for i, token in enumerate(row) if token in stops), len(row))
            answers.append(row[:end])
        return answers


def _document_mask(documents: Tensor) -> Tensor:
    """(rows, 1, length, length), True where a position may look: back, within its document.

    Padding sees itself: a row of the softmax without any key would be undefined.
    """
    same = documents[:, :, None] == documents[:, None, :]
    length = documents.shape[1]
    return (same & same.new_ones(length, length).tril())[:, None]
