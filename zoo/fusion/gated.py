"""What Flamingo-style fusions share: blocks in front of decoder layers, and which medium each position reads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache

from zoo.attention import AttentionMask, attend
from zoo.errors import ZooError
from zoo.fusion.base import Fusion, SoftTokens

if TYPE_CHECKING:
    from zoo.data.batch import Batch
    from zoo.language import LanguageModel

ATTEND_RULES = ("immediate", "all_previous", "previous_or_next")

# Below transformers' base model: Llama, Mistral, Qwen2, GPT-NeoX; OPT; MPT; GPT-J and Falcon.
_LAYER_LISTS = ("layers", "decoder.layers", "blocks", "h")


def decoder_layers(language_model: "LanguageModel") -> nn.ModuleList:
    """The list of decoder layers of a transformers language model. Raises ZooError where there is none known."""
    base = language_model.model.base_model
    for path in _LAYER_LISTS:
        found: Any = base
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise ZooError(
        f"fusion: {type(base).__name__} has no list of decoder layers under {', '.join(_LAYER_LISTS)}; "
        "choose another language model"
    )


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Which positions read which media, as index lists: attention then needs no (positions, media) mask.

    Positions that read the same media form a group. ``positions`` (reading,): their places in the flattened rows;
    ``slots`` (reading,): the same in the flattened (groups, ``num_slots``) table of queries. ``media`` (groups, media a
    group): numbers of the media from 0. ``visible``: None, or (groups, num_slots, media a group) bool where a group has
    media that not all of its positions read.
    """

    positions: Tensor
    slots: Tensor
    num_slots: int
    media: Tensor
    visible: Tensor | None = None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, is_token: Tensor | None) -> Tensor:
        """Attention of the reading positions to their media.

        query: (reading, heads, head_dim). key, value: (media, tokens, heads, head_dim). is_token: (media, tokens) bool
        where media have different numbers of tokens. Returns (reading, heads, head_dim).
        """
        groups, heads, dim = len(self.media), *query.shape[1:]
        table = query.new_zeros(groups * self.num_slots, heads, dim).index_copy(0, self.slots, query)
        key, value = (x[self.media].flatten(1, 2).transpose(1, 2) for x in (key, value))  # (groups, heads, keys, dim)
        allowed = None
        if self.visible is not None or is_token is not None:
            shape = (*self.media.shape, value.shape[2] // self.media.shape[1])
            allowed = query.new_ones(groups, 1, *shape[1:], dtype=torch.bool)
            if is_token is not None:
                allowed = allowed & is_token[self.media][:, None]
            if self.visible is not None:
                allowed = allowed & self.visible[..., None]
            allowed = allowed.flatten(2)[:, None]  # (groups, 1, slots or 1, keys)
        mask = None if allowed is None else AttentionMask.from_dense(allowed)
        output = attend(table.unflatten(0, (groups, self.num_slots)).transpose(1, 2), key, value, mask)
        return output.transpose(1, 2).flatten(0, 1)[self.slots]

    def put_back(self, read: Tensor, rows: Tensor) -> Tensor:
        """read (reading, dim) at its places in zeros of the shape of ``rows`` (rows, length, dim)."""
        return read.new_zeros(rows.shape).flatten(0, 1).index_copy(0, self.positions, read).view(rows.shape)


def _route(group: Tensor, newest: Tensor, media: Tensor, *, only_newest: bool) -> Routing:
    """group (rows, length): 1 + the group of each position, 0 for none; newest: 1 + the newest medium it may read;
    media (groups, media a group): numbers from 0, -1 where a group has fewer. ``only_newest``: groups are media."""
    flat = group.flatten()
    positions = flat.nonzero()[:, 0]
    member_of = flat[positions] - 1
    # A stable sort keeps a group's positions in order; their rank within it is their slot.
    order = member_of.argsort(stable=True)
    sizes = member_of.bincount(minlength=len(media))
    first = sizes.cumsum(0) - sizes
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=flat.device)
    num_slots = max(1, int(sizes.max())) if len(media) else 1
    slots = member_of * num_slots + rank - first[member_of]
    visible = None
    if not only_newest:
        limit = newest.new_zeros(len(media) * num_slots).index_copy(0, slots, newest.flatten()[positions])
        visible = (media[:, None] < limit.unflatten(0, (len(media), num_slots))[..., None]) & (media[:, None] >= 0)
    return Routing(positions=positions, slots=slots, num_slots=num_slots, media=media.clamp(min=0), visible=visible)


class Reading:
    """The media of one batch during the calls of the language model on it.

    ``media`` (media, tokens, dim), ``is_token`` (media, tokens) bool where their numbers differ, else None.
    """

    def __init__(self, soft: SoftTokens | None, batch: "Batch", rule: str, training: bool) -> None:
        self.media, self.is_token = _stacked(soft)
        seen = batch.media_seen if soft is not None and soft.counts else torch.zeros_like(batch.media_seen)
        self.only_newest = rule != "all_previous"
        documents = _documents(batch)
        if rule == "previous_or_next" and training:
            seen = _next_for_some(seen, documents)
        self.seen = seen
        if self.only_newest:
            self.group = seen
            num_media = 0 if self.media is None else len(self.media)
            self.group_media = torch.arange(num_media, device=seen.device)[:, None]
        else:
            self.group = torch.where(seen > 0, documents + 1, 0)
            self.group_media = _media_of_documents(seen, documents)
        self._routings: dict[tuple[int, ...], Routing] = {}

    def routing(self, rows: int, start: int, length: int) -> Routing:
        """For ``length`` positions from ``start`` on, in ``rows`` rows: beams are copies of the batch's rows. Positions
        behind the batch's are newly generated and read what the last one of the prompt reads.
        """
        # Every step of a cached generation reads alike.
        start = min(start, self.seen.shape[1])
        key = (rows, start, length)
        if key not in self._routings:
            copies, rest = divmod(rows, len(self.seen))
            assert not rest, f"{rows} rows are no copies of the {len(self.seen)} of the batch"
            places = torch.arange(start, start + length, device=self.seen.device).clamp(max=self.seen.shape[1] - 1)
            group, newest = (table[:, places].repeat_interleave(copies, dim=0) for table in (self.group, self.seen))
            self._routings[key] = _route(group, newest, self.group_media, only_newest=self.only_newest)
        return self._routings[key]


def _stacked(soft: SoftTokens | None) -> tuple[Tensor | None, Tensor | None]:
    if soft is None or not soft.counts:
        return None, None
    if len(set(soft.counts)) == 1:
        return soft.media.unflatten(0, (len(soft.counts), -1)), None
    media = nn.utils.rnn.pad_sequence(soft.media.split(list(soft.counts)), batch_first=True)
    counts = torch.tensor(soft.counts, device=media.device)
    return media, torch.arange(media.shape[1], device=media.device) < counts[:, None]


def _documents(batch: "Batch") -> Tensor:
    """(rows, length): numbers of the samples, different in different rows; padding has any."""
    rows = torch.arange(len(batch.ids), device=batch.ids.device)[:, None]
    if batch.documents is None:
        return rows.expand_as(batch.ids)
    return rows * (int(batch.documents.max()) + 1) + batch.documents.clamp(min=0)


def _first_and_last(seen: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
    """1 + the number of the first and of the last medium of each document, (documents,); 1 past all and 0 without."""
    num, never = int(documents.max()) + 1, int(seen.max()) + 1
    begun = seen.masked_fill(seen == 0, never)
    first = seen.new_full((num,), never).scatter_reduce(0, documents.flatten(), begun.flatten(), "amin")
    return first, seen.new_zeros(num).scatter_reduce(0, documents.flatten(), seen.flatten(), "amax")


def _media_of_documents(seen: Tensor, documents: Tensor) -> Tensor:
    """(documents, media a document): numbers of the media from 0, -1 where a document has fewer."""
    first, last = _first_and_last(seen, documents)
    length = max(1, int((last - first).max()) + 1)
    media = first[:, None] + torch.arange(length, device=seen.device)
    return (media - 1).masked_fill(media > last[:, None], -1)


def _next_for_some(seen: Tensor, documents: Tensor) -> Tensor:
    """Half of the documents, by chance, read the next medium instead; a medium's own token reads itself."""
    first, last = _first_and_last(seen, documents)
    reads_next = (torch.rand(len(first)) < 0.5).to(seen.device)[documents]
    before = torch.where(documents[:, 1:] == documents[:, :-1], seen[:, :-1], 0)
    begins = seen != nn.functional.pad(before, (1, 0))
    following = torch.where(seen == 0, first[documents], seen + 1)
    following = following.masked_fill(following > last[documents], 0)
    return torch.where(reads_next & ~begins, following, seen)


class _Site:
    """A block's place. A bound method of it is the hook: deepcopy then binds the copy's hook to the copy's fusion."""

    def __init__(self, fusion: "GatedFusion", block: int, layer: int) -> None:
        self.fusion, self.block, self.layer = fusion, block, layer

    def enter(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        """Forward pre-hook of a decoder layer: the block's output is the layer's input."""
        reading = self.fusion.current
        if reading is None:
            return None
        hidden = args[0] if args else kwargs["hidden_states"]
        cache = next((value for value in (*args, *kwargs.values()) if isinstance(value, Cache)), None)
        start = 0 if cache is None else int(cache.get_seq_length(self.layer))
        routing = reading.routing(hidden.shape[0], start, hidden.shape[1])
        block = self.fusion.blocks[self.block]
        if getattr(module, "gradient_checkpointing", False) and module.training and torch.is_grad_enabled():
            hidden = checkpoint(block, hidden, reading.media, reading.is_token, routing, use_reentrant=False)
        else:
            hidden = block(hidden, reading.media, reading.is_token, routing)
        return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})


class GatedFusion(Fusion):
    """Gated blocks in front of decoder layers. They live here, as ``blocks.N.*``; the language model's keys stay.

    Media take no place in the prompt. Outside of ``reading`` the language model is the plain one.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], places: Sequence[int], language_model: "LanguageModel", rule: str
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.places = tuple(places)
        self.rule = rule
        self.current: Reading | None = None
        layers = decoder_layers(language_model)
        for number, place in enumerate(self.places):
            layers[place].register_forward_pre_hook(_Site(self, number, place).enter, with_kwargs=True)

    def num_positions(self, num_tokens: list[int]) -> list[int]:
        return [0] * len(num_tokens)

    @contextmanager
    def reading(self, soft: SoftTokens | None, batch: "Batch") -> Iterator[None]:
        before = self.current
        self.current = Reading(soft, batch, self.rule, self.training)
        try:
            yield
        finally:
            self.current = before


def places_every(every: int, num_layers: int, *, first: int) -> list[int]:
    """Layer numbers ``first``, ``first + every``, ... Raises ZooError where that is none."""
    places = list(range(first, num_layers, every)) if every > 0 else []
    if not places:
        raise ZooError(
            f"fusion.every {every} puts no gated layer into {num_layers} decoder layers; give 1 to {num_layers}"
        )
    return places
