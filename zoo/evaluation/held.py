"""Held-in or held-out: whether a method's published training data contains a benchmark's training split.

registry.yaml says under ``trained_on`` what a method's released weights have seen. A model trained here has seen what
its config names instead, so the marks are about released weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.evaluation.benchmarks.registry import BENCHMARKS, get_benchmark
from zoo.registry import entry, list_methods

HELD_IN, HELD_OUT, UNKNOWN = "held-in", "held-out", "unknown"

# Benchmark -> the data set, as registry.yaml names it, that its training split is; the others have none.
TRAINING_SPLITS = {
    "vqav2": "vqav2",
    "okvqa": "okvqa",
    "vizwiz": "vizwiz",
    "textvqa": "textvqa",
    "textvqa_ocr": "textvqa",
    "gqa": "gqa",
    "scienceqa_img": "scienceqa",
    "coco_captions": "coco_captions",
    "flickr30k": "flickr30k",
    "vg_regions": "vg",
    "refcoco": "refcoco",
    "refcoco+": "refcoco",
    "refcocog": "refcoco",
    "pointqa_local": "pointqa",
    "pointqa_twice": "pointqa",
    "visual7w_pointing": "visual7w",
    "msvd_qa": "msvd_qa",
    "msrvtt_qa": "msrvtt_qa",
    "activitynet_qa": "activitynet_qa",
    "hateful_memes": "hateful_memes",
}
# Data set -> benchmarks whose training split has the same images or videos under other questions.
SAME_MEDIA = {
    "textcaps": ("textvqa", "textvqa_ocr"),
    "video_instruct_100k": ("activitynet_qa",),
    "aokvqa": ("okvqa", "vqav2", "coco_captions"),
    "llava_instruct": ("vqav2", "okvqa", "coco_captions", "refcoco", "refcoco+", "refcocog"),
    "vqav2": ("okvqa", "coco_captions", "refcoco", "refcoco+", "refcocog"),
    "coco_captions": ("vqav2", "okvqa", "refcoco", "refcoco+", "refcocog"),
    "refcoco": ("vqav2", "okvqa", "coco_captions"),
    "vg": ("gqa", "visual7w_pointing", "pointqa_local", "pointqa_twice"),
    "gqa": ("vg_regions", "visual7w_pointing", "pointqa_local", "pointqa_twice"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldMark:
    """``mark`` is held-in, held-out or unknown; ``reason`` says why in words."""

    mark: str
    reason: str


def held(method: str, benchmark: str) -> HeldMark:
    """The mark of a method's released weights on a benchmark.

    Unknown where the registry has no list of the method's training data, or one that is not complete and does not name
    the split. Raises ZooError for an unknown method or benchmark.
    """
    get_benchmark(benchmark)
    facts = entry(method).get("trained_on")
    split = TRAINING_SPLITS.get(benchmark)
    if split is None:
        return HeldMark(mark=HELD_OUT, reason="the benchmark has no training split")
    if facts is None:
        return HeldMark(mark=UNKNOWN, reason="the registry does not list the training data")
    if split in facts["data"]:
        return HeldMark(mark=HELD_IN, reason=f"trained on {split} ({facts['source']})")
    seen = [name for name in facts["data"] if benchmark in SAME_MEDIA.get(name, ())]
    shared = f"; its images or videos are also in {', '.join(seen)}" if seen else ""
    if not facts["complete"]:
        return HeldMark(mark=UNKNOWN, reason=f"the published list of training data is not complete{shared}")
    return HeldMark(mark=HELD_OUT, reason=f"not in the published training data ({facts['source']}){shared}")


def held_notes(methods: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """A line a benchmark among ``tasks`` (the first word of a task is its benchmark) for methods of the registry."""
    known = [method for method in methods if method in list_methods() and method != "blind"]
    lines = []
    for benchmark in dict.fromkeys(task.split(" ")[0] for task in tasks):
        if benchmark not in BENCHMARKS or not known:
            continue
        by_mark: dict[str, list[str]] = {}
        for method in known:
            by_mark.setdefault(held(method, benchmark).mark, []).append(method)
        parts = [f"{mark} for {', '.join(by_mark[mark])}" for mark in (HELD_IN, HELD_OUT, UNKNOWN) if mark in by_mark]
        lines.append(f"Released weights: {benchmark} is {'; '.join(parts)}.")
    return lines


def render(method: str) -> str:
    """Every benchmark with its mark and the reason, for a terminal."""
    width = max(map(len, BENCHMARKS))
    marks = {benchmark: held(method, benchmark) for benchmark in BENCHMARKS}
    return "\n".join(f"{name:<{width}}  {found.mark:<8}  {found.reason}" for name, found in marks.items())
