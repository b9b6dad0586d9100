"""The contract between vision features and the language model's input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from zoo.config import PartConfig
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.data.tiles import TileGrid
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class ConnectorContext:
    """What a connector may look at beside the features.

    ``num_frames``, ``is_video``: frames of each medium (1 for an image) and its kind. ``instruction_ids``,
    ``instruction_mask`` (media, length): the user's text of the sample that each medium belongs to, right padded, where
    the connector reads it. ``boxes`` (regions, 4): corners x0, y0, x1, y1 as fractions of the encoder's square frame,
    in the order of the text; ``box_media`` (regions,): the medium that each box lies in. ``tile_grids``: how each
    medium was cut into tiles, None for one that was not; empty where no medium was.
    """

    num_frames: Sequence[int]
    is_video: Sequence[bool] = ()
    instruction_ids: Tensor | None = None
    instruction_mask: Tensor | None = None
    boxes: Tensor | None = None
    box_media: Tensor | None = None
    tile_grids: "Sequence[TileGrid | None]" = ()


@dataclass(frozen=True, kw_only=True)
class ConnectorConfig(PartConfig):
    """Base of the connector configs. A subclass sets ``kind`` and builds its module.

    ``reads_instruction``: the connector sees the user's text, tokenised by ``instruction_tokenizer`` (a hub id or a
    folder; empty: the language model's own) and cut to ``max_instruction_length`` tokens. ``initial``: hub id, folder
    or file of a BLIP-2 checkpoint that the parts named by the module's ``initial_names`` start from; empty: none.
    """

    # Constants of a kind that does not have them; fields of one that does.
    reads_instruction: ClassVar[bool] = False
    initial: ClassVar[str] = ""
    instruction_tokenizer: ClassVar[str] = ""
    max_instruction_length: ClassVar[int] = 128

    @property
    def reads_text(self) -> bool:
        """Whether the connector needs a tokenizer: for the instruction, or for texts that its own objective learns."""
        return self.reads_instruction

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "Connector":
        """The module for an encoder with ``num_features`` tokens of ``dim_in`` a frame, on ``grid`` (rows, columns).

        A class token comes first where ``num_features`` is one more than the grid has cells. A kind that reads the
        instruction has one more argument, ``instruction_vocabulary``: the size of its tokenizer, 0 where there is none.
        """
        raise TypeError(f"{type(self).__name__} must define build()")


class Connector(nn.Module):
    """Maps the features of all frames of a batch to packed soft tokens.

    ``levels``: hidden states of the encoder that it reads beside the chosen layer, as ``Features.levels``.
    ``initial_names``: prefixes of the parameters that ``ConnectorConfig.initial`` fills, and their prefixes in BLIP-2's
    connector.
    """

    levels: tuple[int, ...] = ()
    initial_names: ClassVar[Mapping[str, str]] = {}

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        """Soft tokens of each medium, from its number of frames and its kind alone: known before any forward."""
        raise TypeError(f"{type(self).__name__} must define num_tokens()")

    def num_tiled_tokens(
        self, num_frames: Sequence[int], is_video: Sequence[bool], tile_grids: "Sequence[TileGrid | None]"
    ) -> list[int]:
        """Soft tokens of media some of which were cut into tiles (``ConnectorContext.tile_grids``).

        For a connector that does not arrange tiles, they are frames like others, one after another.
        """
        return self.num_tokens(num_frames, is_video)

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        """features.tokens (frames, tokens, dim_in) -> (sum of num_tokens over the media, dim_out), media in order."""
        raise TypeError(f"{type(self).__name__} must define forward()")

    def loss(self, features: "Features", context: ConnectorContext) -> Tensor:
        """The connector's own objective, a mean over the batch; ``context`` has the answers as instruction.

        Stages with ``objective: connector`` train it. Raises ZooError where the connector has none.
        """
        raise ZooError(f"{type(self).__name__} has no objective of its own; use objective: language_modeling")

    def forward_regions(self, features: "Features", context: ConnectorContext) -> Tensor:
        """One soft token for each of ``context.boxes``: (regions, dim_out). Only connectors with region features."""
        raise TypeError(f"{type(self).__name__} makes no region features; use a box format without a region prompt")
