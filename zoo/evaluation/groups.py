"""Groups of tasks, for the charts: what a task asks for."""

from collections.abc import Sequence

from zoo.data.scenes.source import INSTRUCT_TASKS, PROBE_TASKS, REGION_TASKS, VIDEO_TASKS
from zoo.evaluation.benchmarks.registry import BENCHMARKS

OTHER = "other tasks"
_SCENES = {
    **dict.fromkeys(INSTRUCT_TASKS, "questions on images"),
    **dict.fromkeys(PROBE_TASKS, "hallucination probes"),
    **dict.fromkeys(REGION_TASKS, "regions"),
    **dict.fromkeys(VIDEO_TASKS, "video"),
}


def group_of(task: str) -> str:
    """The group of a task by the first word of its name: a task of the scenes or a benchmark."""
    name = task.split(" ")[0]
    if name in _SCENES:
        return _SCENES[name]
    return BENCHMARKS[name].group if name in BENCHMARKS else OTHER


def grouped(tasks: Sequence[str]) -> dict[str, list[str]]:
    """The tasks by group, both in the order given."""
    groups: dict[str, list[str]] = {}
    for task in tasks:
        groups.setdefault(group_of(task), []).append(task)
    return groups
