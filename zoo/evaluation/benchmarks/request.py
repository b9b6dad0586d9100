"""What a user asks for in one line: ``vqav2:FOLDER?split=val&style=llava&metric=vqa:lavis&limit=100``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from zoo.data.sample import Message, Sample
from zoo.errors import ZooError, nearest
from zoo.evaluation.benchmarks.answers import INFO_KEY
from zoo.evaluation.benchmarks.benchmark import Benchmark, Prompt, Question
from zoo.evaluation.benchmarks.registry import BENCHMARKS, get_benchmark
from zoo.evaluation.benchmarks.styles import fallbacks, style_of
from zoo.evaluation.items import Item
from zoo.evaluation.metrics import get_metric

OPTIONS = ("split", "style", "metric", "limit")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A benchmark in a folder, asked in a style. ``limit``: how many clusters (images, videos, pairs), 0 for all."""

    benchmark: Benchmark
    root: str
    style: str
    split: str = ""
    metric: str = ""
    limit: int = 0

    @property
    def prompt(self) -> Prompt:
        return self.benchmark.prompt(self.style)

    @property
    def metric_name(self) -> str:
        """``NAME:VARIANT``: what was asked for, else that of the prompt, else the benchmark's."""
        return get_metric(self.metric or self.prompt.metric or self.benchmark.metric).full_name

    @property
    def is_judged(self) -> bool:
        """Whether a language model grades the answers."""
        return self.metric_name.endswith(":judged")

    @property
    def task(self) -> str:
        """The row of tables: the benchmark, its split where it is not the default, whether judged, the limit."""
        split = self.split if self.split and self.split != self.benchmark.default_split else ""
        limit = f"first {self.limit}" if self.limit else ""
        judged = "judged" if self.is_judged else ""
        return " ".join(part for part in (self.benchmark.name, split, judged, limit) if part)

    def items(self, media_root: str | None = None) -> list[Item]:
        """The questions as items, worded in the style. Raises ZooError as ``Benchmark.questions``."""
        questions = self.benchmark.questions(self.root, self.split, media_root=media_root)
        return [self._item(question) for question in _first(questions, self.limit)]

    def _item(self, question: Question) -> Item:
        marks = "".join(f"<{medium.kind}>" for medium in question.media)
        content = "\n".join(part for part in (marks, self.prompt.text.format(**question.fields).strip()) if part)
        about = {
            "benchmark": self.benchmark.name,
            "split": self.split or self.benchmark.default_split,
            "style": self.style,
            "key": question.key,
            "annotation": question.annotation,
            "processing": self.prompt.processing,
        }
        sample = Sample(
            id=f"{self.benchmark.name}-{question.key}",
            messages=(Message(role="user", content=content),),
            media=question.media,
            boxes=question.regions,
            group=question.group,
            info={INFO_KEY: about},
        ).validate()
        return Item(
            sample=sample,
            task=self.task,
            metric=self.metric_name,
            references=question.answers,
            boxes=question.boxes,
            candidates=question.candidates,
        )


def _first(questions: Iterator[Question], limit: int) -> Iterator[Question]:
    """Those of the first ``limit`` groups in the order of the files; all for 0."""
    if not limit:
        yield from questions
        return
    groups: set[str] = set()
    for question in questions:
        if question.group in groups or len(groups) < limit:
            groups.add(question.group)
            yield question


def is_request(spec: str) -> bool:
    """Whether a spec names a benchmark. POPE, MME and RefCOCO can be given as single files too: then it does not."""
    kind, separator, rest = spec.partition(":")
    if not separator or kind not in BENCHMARKS:
        return False
    path = rest.partition("?")[0]
    return not ("," in path or Path(path).is_file())


def read_request(spec: str, template: str = "") -> Request:
    """The request of a spec for a method with this template.

    Raises:
        ZooError: an unknown benchmark, option, style, metric or split, or a limit that is no number.
    """
    name, _, rest = spec.partition(":")
    root, _, query = rest.partition("?")
    values = dict(parse_qsl(query, keep_blank_values=True))
    for key in values:
        if key not in OPTIONS:
            raise ZooError(f"task {spec!r}: unknown option {key!r}.{nearest(key, OPTIONS)}")
    limit = values.pop("limit", "0")
    if not limit.isdigit():
        raise ZooError(f"task {spec!r}: limit is {limit!r}; give a number")
    request = Request(
        benchmark=get_benchmark(name), root=root, limit=int(limit), **{"style": style_of(template), **values}
    )
    fallbacks(request.style)
    if request.split and request.split not in request.benchmark.splits:
        raise ZooError(
            f"{name} has no split {request.split!r}.{nearest(request.split, list(request.benchmark.splits))}"
        )
    get_metric(request.metric_name)
    return request
