"""Looks through a data file before a run does: counts what is in it, names every sample that would fail or be cut."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from tqdm import tqdm

from zoo.data.frames import FrameSampling
from zoo.data.sample import Medium, Sample
from zoo.data.sources import RecordError, open_source
from zoo.errors import ZooError

NUM_LISTED = 20
NUM_CHECKED_FRAMES = 32
_BATCH = 64

PROBLEMS = {
    "malformed": "malformed records",
    "placeholders": "placeholders that do not match the media",
    "media": "missing or unreadable media",
    "empty_answers": "samples with an empty answer or none",
    "cut_off": "samples with answers cut off by the length limit",
    "not_encodable": "samples that cannot be encoded",
}
NOTES = {
    "duplicate_ids": "samples that repeat an earlier id",
    "left_out": "documents without a usable image, which training leaves out",
}


@dataclass(kw_only=True, slots=True)
class Findings:
    """How often a problem occurs, and the first ``NUM_LISTED`` of them as (sample id, text)."""

    num: int = 0
    first: list[tuple[str, str]] = field(default_factory=list)

    def add(self, sample_id: str, text: str) -> None:
        self.num += 1
        if len(self.first) < NUM_LISTED:
            self.first.append((sample_id, text))


@dataclass(kw_only=True, slots=True)
class CheckReport:
    """What was found in a source.

    ``media_per_sample`` maps a number of media to the number of samples with it. ``problems`` (keys of ``PROBLEMS``)
    make the report not ok; ``notes`` (keys of ``NOTES``) do not: published LLaVA files repeat their ids.
    ``num_media_opened`` counts distinct media; those beyond ``max_media`` are only looked up on disk.
    """

    name: str
    num_samples: int = 0
    num_turns: int = 0
    num_images: int = 0
    num_videos: int = 0
    num_boxes: int = 0
    num_text_only: int = 0
    num_media_opened: int = 0
    num_media_looked_up: int = 0
    lengths_checked: bool = False
    limit: int | None = None
    media_per_sample: Counter[int] = field(default_factory=Counter)
    problems: dict[str, Findings] = field(default_factory=lambda: {key: Findings() for key in PROBLEMS})
    notes: dict[str, Findings] = field(default_factory=lambda: {key: Findings() for key in NOTES})

    @property
    def ok(self) -> bool:
        """Whether every sample can be trained on as it is; an empty source is not ok."""
        return self.num_samples > 0 and not any(findings.num for findings in self.problems.values())

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        found = {
            group: {
                key: {"num": findings.num, "first": [{"id": id, "text": text} for id, text in findings.first]}
                for key, findings in getattr(self, group).items()
            }
            for group in ("problems", "notes")
        }
        counts = {
            name: getattr(self, name)
            for name in (
                "num_samples",
                "num_turns",
                "num_images",
                "num_videos",
                "num_boxes",
                "num_text_only",
                "num_media_opened",
                "num_media_looked_up",
                "lengths_checked",
                "limit",
            )
        }
        per_sample = {str(num): times for num, times in sorted(self.media_per_sample.items())}
        return {"name": self.name, "ok": self.ok, **counts, "media_per_sample": per_sample, **found}

    def render(self) -> str:
        """The report as text: counts, then each kind of problem with the first samples that have it."""
        per_sample = ", ".join(f"{num}: {times:,}" for num, times in sorted(self.media_per_sample.items()))
        lines = [
            f"{self.name}: {'ok' if self.ok else 'not ok'}",
            f"  samples {self.num_samples:,}, turns {self.num_turns:,}, images {self.num_images:,}, "
            f"videos {self.num_videos:,}, boxes {self.num_boxes:,}, text only {self.num_text_only:,}",
            f"  samples by number of media: {per_sample or 'none'}",
            f"  media opened {self.num_media_opened:,}, only looked up on disk {self.num_media_looked_up:,}",
        ]
        if self.limit is not None:
            lines.append(f"  only the first {self.limit:,} samples were looked at (--limit)")
        if not self.num_samples:
            lines.append("  no sample was found; is this the right file?")
        titles = {**PROBLEMS, **NOTES}
        for key, findings in {**self.problems, **self.notes}.items():
            if key == "cut_off" and not self.lengths_checked:
                lines.append("  answer lengths were not checked; name a method (--method NAME) to check them")
                continue
            lines.append(f"  {titles[key]}: {findings.num:,}{' (a note)' if key in NOTES and findings.num else ''}")
            lines += [f"    {id}: {text}" for id, text in findings.first]
            if findings.num > len(findings.first):
                lines.append(f"    ... and {findings.num - len(findings.first):,} more")
        return "\n".join(lines)


def check(
    spec: Any,
    *,
    media_root: str | None = None,
    encode: Callable[[Sample], Any] | None = None,
    read_media: Callable[..., Any] | None = None,
    max_media: int | None = None,
    limit: int | None = None,
    num_threads: int = 4,
    progress: bool | None = None,
) -> CheckReport:
    """Read every sample of a source and open its media, collecting all problems instead of stopping at the first.

    Args:
        spec: what ``open_source`` takes, or a source.
        media_root: where relative media paths start; the file's folder by default.
        encode: from a sample to an object with ``num_supervised``, ``num_supervised_before_truncation`` and
            ``truncated``; None leaves answer lengths unchecked.
        read_media: decodes a medium or raises ZooError; by default ``zoo.data.media.load_frames``, which keeps no more
            than ``NUM_CHECKED_FRAMES`` of a video, spread over it.
        max_media: open at most so many distinct media; the rest are only looked up on disk.
        limit: look at the first samples only.
        num_threads: threads that open media.
        progress: whether to show a bar on stderr; None shows it on a terminal.

    Raises:
        ZooError: the source cannot be opened at all.
    """
    if read_media is None:
        from zoo.data.media import load_frames

        read_media = partial(load_frames, frames=FrameSampling(kind="linspace", num_frames=NUM_CHECKED_FRAMES))
    is_spec = isinstance(spec, str)
    source = open_source(spec, media_root=media_root, rank=0, num_ranks=1) if is_spec else spec
    name = spec if is_spec else getattr(source, "path", type(source).__name__)
    report = CheckReport(name=name, limit=limit, lengths_checked=encode is not None)
    media = _MediaCheck(read_media, max_media)
    seen_ids: set[str] = set()
    total = len(source) if hasattr(source, "__len__") else None
    if total is not None and limit is not None:
        total = min(total, limit)
    bar = tqdm(total=total, desc="check", unit=" samples", disable=None if progress is None else not progress)
    with bar, ThreadPoolExecutor(num_threads) as pool:
        results = islice(_results(source), limit)
        while batch := list(islice(results, _BATCH)):
            samples = [result for result in batch if isinstance(result, Sample)]
            for sample_id, problem in media.problems(samples, pool):
                report.problems["media"].add(sample_id, problem)
            for result in batch:
                _count(result, report, seen_ids, encode)
            bar.update(len(batch))
    report.num_media_opened, report.num_media_looked_up = media.num_opened, media.num_looked_up
    left_out = getattr(source, "left_out", None)
    for sample_id, reason in left_out.documents if left_out is not None else ():
        report.notes["left_out"].add(sample_id, reason)
    return report


def _results(source: Any) -> Iterator[Sample | ZooError]:
    if hasattr(source, "__len__"):
        for index in range(len(source)):
            try:
                yield source[index]
            except ZooError as error:
                yield error
        return
    if not hasattr(source, "samples"):
        yield from source
        return
    errors: list[ZooError] = []
    for sample in source.samples(on_error=errors.append):
        yield from errors
        errors.clear()
        yield sample
    yield from errors


def _count(
    result: Sample | ZooError, report: CheckReport, seen_ids: set[str], encode: Callable[[Sample], Any] | None
) -> None:
    report.num_samples += 1
    if isinstance(result, ZooError):
        problem = result.problem if isinstance(result, RecordError) else "malformed"
        sample_id = result.sample_id if isinstance(result, RecordError) else ""
        report.problems[problem].add(sample_id or "(unknown)", str(result))
        return
    sample = result
    if sample.id in seen_ids:
        report.notes["duplicate_ids"].add(sample.id, f"sample {report.num_samples - 1} in order")
    seen_ids.add(sample.id)
    kinds = Counter(medium.kind for medium in sample.media)
    report.num_turns += len(sample.messages)
    report.num_images += kinds["image"]
    report.num_videos += kinds["video"]
    report.num_boxes += len(sample.boxes)
    report.num_text_only += not sample.media
    report.media_per_sample[len(sample.media)] += 1
    answers = [message.content.strip() for message in sample.messages if message.role == "assistant"]
    if not answers:
        report.problems["empty_answers"].add(sample.id, "no assistant turn, so nothing to learn from; add an answer")
    elif not all(answers):
        report.problems["empty_answers"].add(sample.id, f"answer {answers.index('') + 1} of {len(answers)} is empty")
    if encode is not None:
        _check_length(sample, report, encode)


def _check_length(sample: Sample, report: CheckReport, encode: Callable[[Sample], Any]) -> None:
    try:
        encoded = encode(sample)
    except ZooError as error:
        report.problems["not_encodable"].add(sample.id, str(error))
        return
    kept, whole = encoded.num_supervised, encoded.num_supervised_before_truncation
    if kept < whole:
        lost = "no answer is left" if not kept else f"{whole - kept} of {whole} answer tokens are lost"
        report.problems["cut_off"].add(sample.id, f"{lost}; shorten the sample or raise the length limit")


class _MediaCheck:
    """Opens each distinct file once, whatever number of samples share it."""

    def __init__(self, read_media: Callable[..., Any], max_media: int | None) -> None:
        self.num_opened = self.num_looked_up = 0
        self._read_media, self._max_media = read_media, max_media
        self._known: dict[str, str | None] = {}

    def problems(self, samples: Sequence[Sample], pool: ThreadPoolExecutor) -> Iterator[tuple[str, str]]:
        """(sample id, what is wrong) for each bad medium, in the order of the samples."""
        uses = [(sample, medium, _key(medium)) for sample in samples for medium in sample.media]
        jobs = {key: medium for _, medium, key in uses if key not in self._known}
        num_to_open = len(jobs) if self._max_media is None else max(0, self._max_media - self.num_opened)
        to_open, to_look_up = list(jobs)[:num_to_open], list(jobs)[num_to_open:]
        self.num_opened += len(to_open)
        self.num_looked_up += len(to_look_up)
        found = dict(zip(to_open, pool.map(self._open, [jobs[key] for key in to_open])))
        found |= {key: _look_up(jobs[key]) for key in to_look_up}
        for sample, _, key in uses:
            problem = found[key] if key in found else self._known[key]
            if problem:
                yield sample.id, problem
        # Media that are not files are never met again; keeping their keys would only fill the memory.
        self._known |= {key: problem for key, problem in found.items() if isinstance(key, str)}

    def _open(self, medium: Medium) -> str | None:
        try:
            self._read_media(medium)
        except (ZooError, OSError) as error:
            return str(error)
        return None


def _key(medium: Medium) -> str | tuple[str, int]:
    if isinstance(medium.source, str | os.PathLike):
        return f"{medium.kind}:{os.fspath(medium.source)}"
    return medium.kind, id(medium)


def _look_up(medium: Medium) -> str | None:
    paths = medium.source if isinstance(medium.source, list | tuple) else [medium.source]
    for path in paths:
        if isinstance(path, str | os.PathLike) and not os.path.exists(path):
            return f"{os.fspath(path)} does not exist; check the media root"
    return None
