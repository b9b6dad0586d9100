"""The batches of every step, as a pure function of seed and step: what makes resuming exact."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from zoo.config import Stage, TrainingConfig
from zoo.data.batch import Batch, Example, Preprocessor, pack, pack_rows, pad
from zoo.data.template import Template
from zoo.errors import ZooError


def is_map_style(source: Any) -> bool:
    """Whether samples can be read by index; streams of shards cannot."""
    return hasattr(source, "__len__")


def num_steps(stage: Stage, num_samples: int | None) -> int:
    """Optimizer steps of a stage. Raises ZooError for a stream of unknown length without ``steps``."""
    if stage.steps is not None:
        return stage.steps
    if num_samples is None:
        key = f"stages.{stage.name}.steps"
        raise ZooError(f"stage {stage.name!r}: {stage.data} is a stream of unknown length; set {key}")
    return max(1, int(stage.epochs * num_samples) // stage.batch)


def micro_batches(examples: list[Example], training: TrainingConfig, max_length: int, pad_id: int) -> list[Batch]:
    """Split the examples of one step on one device into forwards, by the padding policy. Same samples, same loss."""
    if training.packing:
        rows = pack(examples, length=max_length)
        size = training.micro_batch
        return [pack_rows(rows[i : i + size], pad_id=pad_id) for i in range(0, len(rows), size)]
    if training.group_by_length:
        examples = sorted(examples, key=len)
    size = training.micro_batch
    return [pad(examples[i : i + size], pad_id=pad_id) for i in range(0, len(examples), size)]


class StepData(Dataset):
    """Item ``step`` is (batches, ids of samples left without a supervised token) of this process."""

    def __init__(
        self,
        source: Any,
        *,
        stage: Stage,
        training: TrainingConfig,
        preprocessor: Preprocessor,
        template: Template,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if is_map_style(source) and len(source) == 0:
            raise ZooError(f"stage {stage.name!r}: {stage.data} holds no samples; check the file")
        self.source, self.stage, self.training = source, stage, training
        self.preprocessor, self.template = preprocessor, template
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self._epoch, self._order = -1, torch.empty(0)

    def sample_index(self, position: int) -> int:
        """The sample at a position of the endless stream of shuffled epochs."""
        epoch, offset = divmod(position, len(self.source))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self.source), generator=generator)
        return int(self._order[offset])

    def __getitem__(self, step: int) -> "tuple[list[Batch], list[str]] | ZooError":
        first = step * self.stage.batch
        positions = range(first + self.rank, first + self.stage.batch, self.world_size)
        try:
            return self.assemble([self.source[self.sample_index(position)] for position in positions])
        except ZooError as error:
            # Raised in a worker process it would arrive wrapped in a traceback; the reader raises it.
            return error

    def assemble(self, samples: list[Any]) -> tuple[list[Batch], list[str]]:
        examples = [self.preprocessor(s, self.template, max_length=self.stage.max_length) for s in samples]
        silent = [example.sample_id for example in examples if not example.num_supervised]
        kept = [example for example in examples if example.num_supervised]
        pad_id = self.preprocessor.tokenizer.pad_token_id
        return micro_batches(kept, self.training, self.stage.max_length, pad_id), silent


class StreamData:
    """The same for a source that can only be read in order; a resumed run reads past what was seen."""

    def __init__(self, data: StepData) -> None:
        self.data = data

    def steps(self, start: int, stop: int) -> Iterator[tuple[list[Batch], list[str]]]:
        data = self.data
        share = len(range(data.rank, data.stage.batch, data.world_size))
        samples: list[Any] = []
        to_skip, step, seen_any = start * share, start, True
        while step < stop:
            if not seen_any:
                raise ZooError(f"stage {data.stage.name!r}: {data.stage.data} holds no samples; check the shards")
            seen_any = False
            for sample in data.source:
                seen_any = True
                if to_skip:
                    to_skip -= 1
                    continue
                samples.append(sample)
                if len(samples) == share:
                    yield data.assemble(samples)
                    samples, step = [], step + 1
                    if step == stop:
                        return


def iterate(data: StepData, start: int, stop: int) -> Iterator[tuple[list[Batch], list[str]]]:
    """Batches of steps ``start`` to ``stop``; decoded ahead in worker processes where the config says so."""
    if not is_map_style(data.source):
        return StreamData(data).steps(start, stop)
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=range(start, stop),
        # Without one of its own, the loader would draw from the random state that dropout goes on from after a resume.
        generator=torch.Generator(),
        num_workers=data.training.num_workers,
        prefetch_factor=2 if data.training.num_workers else None,
    )
    return map(_raised, loader)


def _raised(item: "tuple[list[Batch], list[str]] | ZooError") -> tuple[list[Batch], list[str]]:
    if isinstance(item, ZooError):
        raise item
    return item
