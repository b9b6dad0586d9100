"""Few-shot items: answered demonstrations stand as earlier turns before the question.

The protocol is OpenFlamingo's (arXiv 2308.01390, ``open_flamingo/eval``): demonstrations come from the training split,
at random or by image similarity (RICES). Two deviations: a random draw depends on the seed and the item alone, there
also on ranks and the order of the items; and the query's own image is never a demonstration, there it may be.
"""

import os
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

import torch
import torch.nn.functional as functional
from torch import Tensor

from zoo.data.frames import FrameSampling
from zoo.data.media import load_frames
from zoo.data.sample import BOX_PLACEHOLDER, MEDIA_PLACEHOLDERS, PLACEHOLDER_PATTERN, Sample
from zoo.data.scenes import answered
from zoo.errors import ZooError, nearest
from zoo.evaluation.items import Item
from zoo.model import VLM
from zoo.registry import entry

SELECTIONS = ("random", "similar")
ZERO_SHOTS = ("plain", "text_only_demonstrations")
CAPABILITIES = ("few_shot", "multi_image")
NUM_TEXT_ONLY = 2
# What a row of predictions says about its demonstrations travels under this key of ``Sample.info``.
INFO_KEY = "few_shot"
VIDEO_FRAMES = FrameSampling(kind="linspace", num_frames=8)
_OPTIONS = {"shots": "num_shots", "selection": "selection", "zero_shot": "zero_shot", "shot_seed": "seed"}


@dataclass(frozen=True, kw_only=True)
class Shots:
    """How many demonstrations, and how they are chosen.

    ``selection`` random draws them for each item from ``seed`` and the item's id; similar takes the nearest images, the
    most similar last, beside the query. ``zero_shot`` says what 0 shots mean: plain is the question alone,
    text_only_demonstrations is OpenFlamingo's convention, two demonstrations (chosen by ``selection``) without their
    images, which show the form of an answer.

    Raises:
        ZooError: a negative number or an unknown word.
    """

    num_shots: int = 0
    selection: str = "random"
    zero_shot: str = "plain"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_shots < 0:
            raise ZooError(f"shots is {self.num_shots}; give 0 or more")
        for key, value, known in (
            ("shot selection", self.selection, SELECTIONS),
            ("zero_shot", self.zero_shot, ZERO_SHOTS),
        ):
            if value not in known:
                raise ZooError(f"unknown {key} {value!r}.{nearest(value, known)}")

    @property
    def is_text_only(self) -> bool:
        return not self.num_shots and self.zero_shot == "text_only_demonstrations"

    @property
    def num_demonstrations(self) -> int:
        return NUM_TEXT_ONLY if self.is_text_only else self.num_shots

    def describe(self) -> str:
        """What the name of a task says behind it: ``4 shots, similar``."""
        form = "text-only, " if self.is_text_only else ""
        return f"{self.num_shots} shot{'' if self.num_shots == 1 else 's'}, {form}{self.selection}"


def split_shots(spec: str, default: Shots) -> tuple[str, Shots]:
    """The spec of a task without its few-shot options, and what they say over ``default``.

    ``scenes:colour?num_items=50&shots=4&selection=similar`` gives ``scenes:colour?num_items=50`` and the shots.
    Raises ZooError for a number that is none.
    """
    base, mark, query = spec.rpartition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    values: dict[str, Any] = {_OPTIONS[key]: value for key, value in pairs if key in _OPTIONS}
    if not mark or not values:
        return spec, default
    for key, field in _OPTIONS.items():
        if key in ("shots", "shot_seed") and field in values:
            if not values[field].isdigit():
                raise ZooError(f"task {spec!r}: {key} is {values[field]!r}; give a number")
            values[field] = int(values[field])
    rest = "&".join(part for part in query.split("&") if part.partition("=")[0] not in _OPTIONS)
    return f"{base}?{rest}" if rest else base, replace(default, **values)


def demonstration(source: Item | Sample) -> Sample:
    """The first question of an item or sample with its media and answer; the answer of an item is its first reference.

    Raises:
        ZooError: no answer, or no image in the first turn.
    """
    if isinstance(source, Item):
        if not source.references and not source.boxes:
            raise ZooError(f"demonstration {source.sample.id!r} has no answer; give a training split")
        source = answered(source)
    turns = [message for message in source.messages if message.role != "system"]
    roles = [message.role for message in turns[:2]]
    if roles != ["user", "assistant"]:
        raise ZooError(f"demonstration {source.id!r} begins with roles {roles}; it needs a question and an answer")
    marks = [mark for message in turns[:2] for mark in PLACEHOLDER_PATTERN.findall(message.content)]
    num_boxes = marks.count(BOX_PLACEHOLDER)
    if len(marks) == num_boxes:
        raise ZooError(f"demonstration {source.id!r} has no image in its first turn; give samples with images")
    return replace(
        source,
        messages=(turns[0], replace(turns[1], supervised=False)),
        media=source.media[: len(marks) - num_boxes],
        boxes=source.boxes[:num_boxes],
    ).validate()


class SupportPool:
    """The demonstrations that a model can be shown. Image features are computed once, when first asked for.

    A pool belongs to one model as it is: the weights of its encoder must not change afterwards.

    Raises:
        ZooError: a source that is no demonstration.
    """

    def __init__(self, model: VLM, sources: Sequence[Item | Sample]) -> None:
        self.model = model
        self.samples = tuple(demonstration(source) for source in sources)
        self._places: dict[tuple[str, str], list[int]] = defaultdict(list)
        for place, sample in enumerate(self.samples):
            for identity in _identities(sample):
                self._places[identity].append(place)

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def features(self) -> Tensor:
        """(samples, dim) float32, unit length."""
        return image_features(self.model, self.samples)

    def select(self, samples: Sequence[Sample], shots: Shots) -> list[list[int]]:
        """Places of the demonstrations of each sample, in the order in which they are shown.

        Raises:
            ZooError: fewer demonstrations than asked for are left without the sample's own image or group.
        """
        own = [{place for identity in _identities(sample) for place in self._places[identity]} for sample in samples]
        for sample, places in zip(samples, own):
            if len(self) - len(places) < shots.num_demonstrations:
                raise ZooError(
                    f"item {sample.id!r}: {shots.num_demonstrations} demonstrations are asked for, but the pool holds "
                    f"{len(self)}, {len(places)} of them of the item's own image; give a larger pool or fewer shots"
                )
        if shots.selection == "random":
            return [self._draw(sample, places, shots) for sample, places in zip(samples, own)]
        return [
            self._nearest(feature, places, shots.num_demonstrations)
            for feature, places in zip(image_features(self.model, samples), own)
        ]

    def _draw(self, sample: Sample, own: set[int], shots: Shots) -> list[int]:
        # A string seeds through SHA-512: the same draw in every process and for every order of the items.
        drawn = random.Random(f"{shots.seed}/{sample.id}").sample(range(len(self)), shots.num_demonstrations + len(own))
        return [place for place in drawn if place not in own][: shots.num_demonstrations]

    def _nearest(self, feature: Tensor, own: set[int], num: int) -> list[int]:
        order = (self.features @ feature).sort(descending=True, stable=True).indices.tolist()
        return [place for place in order[: num + len(own)] if place not in own][:num][::-1]


def _identities(sample: Sample) -> set[tuple[str, str]]:
    """What two samples share when they are the same or show the same image: id, group, names and paths of media."""
    names = {sample.group}
    for medium in sample.media:
        names.add(medium.name)
        if isinstance(medium.source, str | os.PathLike):
            names.add(os.fspath(medium.source))
    return {("id", sample.id)} | {("image", name) for name in names if name}


@torch.no_grad()
def image_features(model: VLM, samples: Sequence[Sample], *, batch: int = 32) -> Tensor:
    """(samples, dim) float32 of unit length on the CPU: what RICES compares.

    The pooled output of the model's own encoder, or the mean of its tokens where it pools nothing; a sample's frames
    are averaged. The published features are CLIP's after its projection into the space of texts, which a vision tower
    alone does not have.

    Raises:
        ZooError: the model has no encoder, a sample has no media, or they cannot be read.
    """
    encoder = model.encoder
    if encoder is None:
        raise ZooError(f"method {model.method.name!r} has no encoder to compare images with; use selection random")
    parameter = next(encoder.parameters())
    rows = []
    for start in range(0, len(samples), batch):
        counts, pixels = [], []
        for sample in samples[start : start + batch]:
            if not sample.media:
                raise ZooError(f"sample {sample.id!r} has no image to compare; use selection random")
            images = [
                image
                for medium in sample.media
                for image in load_frames(medium, sample_id=sample.id, frames=VIDEO_FRAMES)
            ]
            pixels += [encoder.transform.apply(image)[0] for image in images]
            counts.append(len(images))
        features = encoder(torch.stack(pixels).to(parameter.device, parameter.dtype))
        whole = features.tokens.mean(1) if features.pooled is None else features.pooled
        rows += [frames.mean(0) for frames in whole.float().cpu().split(counts)]
    return functional.normalize(torch.stack(rows), dim=-1)


def few_shot_items(items: Sequence[Item], pool: SupportPool, shots: Shots) -> list[Item]:
    """The items with their demonstrations before them; with none to show, the items themselves.

    The task's name says so ("colour (4 shots, similar)"), ``sample.info["few_shot"]`` holds what a row of predictions
    records: shots, selection, zero_shot, shot_seed, and the ids of the demonstrations in their order.

    Raises:
        ZooError: the method takes one image only, the pool is too small, or boxes would stand without their image.
    """
    if not shots.num_demonstrations:
        return list(items)
    # A method without encoder reads the texts of the demonstrations alone, as it does with the question.
    if pool.model.encoder is not None and not shots.is_text_only:
        name = pool.model.method.name
        capabilities = entry(name)["capabilities"]
        if not set(CAPABILITIES) & set(capabilities):
            raise ZooError(
                f"method {name!r} has no capability {' or '.join(CAPABILITIES)} (it has {', '.join(capabilities)}): "
                "it cannot be shown demonstrations; evaluate it with 0 shots"
            )
    chosen = pool.select([item.sample for item in items], shots)
    return [_join(item, [pool.samples[place] for place in places], shots) for item, places in zip(items, chosen)]


def _join(item: Item, demonstrations: Sequence[Sample], shots: Shots) -> Item:
    ids = [sample.id for sample in demonstrations]
    if shots.is_text_only:
        demonstrations = [_without_media(sample) for sample in demonstrations]
    query = item.sample
    media, boxes, messages = [], [], [message for message in query.messages if message.role == "system"]
    for sample in (*demonstrations, query):
        boxes += [replace(box, medium=box.medium + len(media)) for box in sample.boxes]
        media += sample.media
        messages += [message for message in sample.messages if message.role != "system"]
    recorded = {
        "shots": shots.num_shots,
        "selection": shots.selection,
        "zero_shot": shots.zero_shot,
        "shot_seed": shots.seed,
        "demonstrations": ids,
    }
    sample = replace(
        query,
        messages=tuple(messages),
        media=tuple(media),
        boxes=tuple(boxes),
        info={**query.info, INFO_KEY: recorded},
    )
    first = len(media) - len(query.media)
    answers = tuple(replace(box, medium=box.medium + first) for box in item.boxes)
    return replace(item, sample=sample, boxes=answers, task=f"{item.task} ({shots.describe()})")


def _without_media(sample: Sample) -> Sample:
    if sample.boxes:
        raise ZooError(
            f"demonstration {sample.id!r} has boxes, which mean nothing without their image; use zero_shot plain"
        )
    messages = []
    for message in sample.messages:
        text = message.content
        for mark in MEDIA_PLACEHOLDERS.values():
            text = text.replace(mark, "")
        messages.append(replace(message, content=text.strip()))
    return replace(sample, messages=tuple(messages), media=())
