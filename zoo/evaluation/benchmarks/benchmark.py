"""What a benchmark is: the files it is made of, how they become questions, how a question is asked and scored."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zoo.data.sample import Box, Medium
from zoo.data.template import Template
from zoo.errors import ZooError, nearest
from zoo.evaluation.benchmarks.folder import Folder
from zoo.evaluation.benchmarks.styles import fallbacks
from zoo.evaluation.decoding import Decoding

GROUPS = (
    "visual questions",
    "hallucination and perception",
    "multiple choice",
    "captions",
    "grounding",
    "video",
    "classification",
    "open dialogue",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question as a benchmark's files hold it, not yet worded for a method.

    ``key``: the id by which the metric joins; unique within the benchmark. ``fields``: what prompts are made of.
    ``annotation``: what the metric reads under ``key`` as the reference. ``answers``: right answers, the first of them
    what a demonstration says. ``candidates``: a closed set to rank. ``boxes``: the right box; ``regions``: boxes in the
    question, one ``<box>`` each in the prompt. ``group``: the cluster of statistics.
    """

    key: str
    fields: Mapping[str, str]
    media: tuple[Medium, ...]
    group: str
    annotation: Any
    answers: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    regions: tuple[Box, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """How one style of methods is asked.

    ``text``: a format string of a question's fields. ``processing``: what is done to an answer before it is scored, a
    name of ``zoo.evaluation.benchmarks.processing``. ``form`` changes the conversation around it where the method's own
    is not what its authors evaluate with. ``metric``: where a style has another one than the benchmark.
    ``source`` says where the wording was published.
    """

    text: str
    decoding: Decoding
    source: str
    processing: str = "as it is"
    form: Callable[[Template], Template] | None = None
    metric: str = ""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A public benchmark.

    ``splits``: the first one is the default; each maps a role (questions, annotations, images) to its place below the
    user's folder, alternatives separated by ``|``, folders with ``/`` behind them. ``train``: the split that
    demonstrations come from. ``read`` gives the questions of a folder. ``prompts`` are by style
    (``zoo.evaluation.benchmarks.styles``). ``metric`` is a name of ``zoo score --list``; ``judged``: the answers are
    graded by a language model.
    """

    name: str
    title: str
    group: str
    splits: Mapping[str, Mapping[str, str]]
    read: Callable[[Folder], Iterable[Question]]
    prompts: Mapping[str, Prompt]
    metric: str
    train: str = ""
    judged: bool = False
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.group in GROUPS and "llava" in self.prompts, self.name

    @property
    def default_split(self) -> str:
        return next(iter(self.splits))

    def prompt(self, style: str) -> Prompt:
        """The prompt of a style, else of the one that it falls back to."""
        return self.prompts[next(name for name in fallbacks(style) if name in self.prompts)]

    def questions(self, root: str, split: str = "", *, media_root: str | None = None) -> Iterator[Question]:
        """The questions of a split in the order of the files.

        Raises:
            ZooError: an unknown split, files that are not there (all of them named), malformed ones, a key twice, none.
        """
        split = split or self.default_split
        if split not in self.splits:
            raise ZooError(f"{self.name} has no split {split!r}.{nearest(split, list(self.splits))}")
        folder = Folder(self.name, root, split, self.splits[split], media_root)
        folder.check()
        seen = set()
        for question in self.read(folder):
            if question.key in seen:
                raise ZooError(f"{self.name}: {root}: question {question.key!r} is there twice; keep one of them")
            seen.add(question.key)
            yield question
        if not seen:
            raise ZooError(f"{self.name}: {root}: no questions of split {split!r}; check the files")
