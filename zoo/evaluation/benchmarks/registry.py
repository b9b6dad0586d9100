"""The benchmarks by name."""

from zoo.errors import ZooError, nearest
from zoo.evaluation.benchmarks import captions, choices, dialogue, grounding, memes, video, visual_questions, yes_no
from zoo.evaluation.benchmarks.benchmark import GROUPS, Benchmark

_MODULES = (visual_questions, yes_no, choices, captions, grounding, video, memes, dialogue)
BENCHMARKS = {benchmark.name: benchmark for module in _MODULES for benchmark in module.BENCHMARKS}


def list_benchmarks() -> list[Benchmark]:
    """Every benchmark, by group."""
    return sorted(BENCHMARKS.values(), key=lambda benchmark: GROUPS.index(benchmark.group))


def get_benchmark(name: str) -> Benchmark:
    """A benchmark by its exact name. Raises ZooError with the nearest one."""
    if name not in BENCHMARKS:
        raise ZooError(f"unknown benchmark {name!r}.{nearest(name, list(BENCHMARKS))} zoo benchmarks list names them")
    return BENCHMARKS[name]
