"""train, evaluate and compare as Python functions; the command line is a thin face on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.comparison import compare
from zoo.evaluation.runner import Decoding, Evaluator
from zoo.evaluation.tasks import load_items
from zoo.loading import load
from zoo.model import VLM
from zoo.run import resolve_run
from zoo.training.loop import train as train_run

__all__ = ["compare", "evaluate", "train"]


def train(
    name: str,
    out: "str | Path",
    setting: str | None = None,
    *,
    data: "str | dict[str, str] | None" = None,
    media_root: str | None = None,
    seed: int = 0,
    resume: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> VLM:
    """Train a method by name: ``zoo.train("llava-1.5", "runs/mine", "scenes-tiny", data="my.json")``.

    Args:
        data: a file for every stage, or stage name -> file.
        overrides: ``**{"stages.instruct.steps": 100}``.

    Raises:
        ZooError: bad names, keys or data; ``out`` holds a run already and ``resume`` is False.
    """
    texts = [f"{key}={value}" for key, value in overrides.items()]
    by_stage = {"*": data} if isinstance(data, str) else data
    config = resolve_run(name, setting, texts, seed=seed, data=by_stage, media_root=media_root)
    return train_run(config, out, resume=resume, quiet=quiet)


def evaluate(
    model: "VLM | str | Path",
    tasks: Sequence[str],
    *,
    media_root: str | None = None,
    out: "str | Path | None" = None,
    decoding: Decoding | None = None,
    batch: int = 64,
) -> list[dict[str, Any]]:
    """Predictions of a model (or of the one in a folder) on tasks given by spec; see ``zoo.evaluation.tasks``.

    With ``out``, each task's rows are kept in OUT/TASK.jsonl and an interrupted evaluation goes on from there.
    """
    vlm = model if isinstance(model, VLM) else load(model)
    evaluator = Evaluator(vlm, decoding=decoding or Decoding(), batch=batch)
    rows = []
    for spec in tasks:
        items = load_items(spec, media_root=media_root)
        file = Path(out) / f"{items[0].task.replace(' ', '_')}.jsonl" if out and items else None
        rows += evaluator.evaluate(items, file)
    return rows
