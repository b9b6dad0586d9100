"""Evaluation items by spec: tasks of the synthetic scenes, or public annotation files that the user has."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from zoo.data.open import open_data
from zoo.data.sample import Sample
from zoo.data.scenes import TASKS, chance, items
from zoo.errors import ZooError, nearest
from zoo.evaluation import files
from zoo.evaluation.items import Item

SCENES = "scenes"
NUM_SUPPORT = 512


def _vqa(paths: list[str], root: str) -> list[Item]:
    return files.read_vqa(*paths, root)


def _pope(paths: list[str], root: str) -> list[Item]:
    return files.read_pope(paths[0], root, task=f"pope {Path(paths[0]).stem}")


def _mme(paths: list[str], root: str) -> list[Item]:
    return files.read_mme(paths[0], root)


def _refcoco(paths: list[str], root: str) -> list[Item]:
    refs, instances, split = paths
    return files.read_refcoco(refs, instances, root, split)


def _video_qa(paths: list[str], root: str) -> list[Item]:
    return files.read_video_qa(*paths, root)


# kind -> (files it takes, reader)
READERS: dict[str, tuple[tuple[str, ...], Callable[[list[str], str], list[Item]]]] = {
    "vqa": (("QUESTIONS", "ANNOTATIONS"), _vqa),
    "pope": (("FILE",), _pope),
    "mme": (("FILE",), _mme),
    "refcoco": (("REFS", "INSTANCES", "SPLIT"), _refcoco),
    "video_qa": (("QUESTIONS", "ANSWERS"), _video_qa),
}


def load_items(spec: str, *, media_root: str | None = None) -> list[Item]:
    """Items of one task.

    Args:
        spec: ``scenes:TASK?split=test&num_items=200&seed=0&image_size=64``, or KIND:FILE[,FILE...] of ``READERS``
            (``pope:coco_pope_random.json``, ``vqa:questions.json,annotations.json``).
        media_root: folder of the images or videos; default: the folder of the first file.

    Raises:
        ZooError: unknown kind, task or option, wrong number of files, a malformed file.
    """
    kind, separator, rest = spec.partition(":")
    if kind == SCENES and separator:
        task, _, query = rest.partition("?")
        options: dict = {"split": "test", "num_items": 200}
        allowed = ("split", "num_items", "seed", "image_size", "num_frames")
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key not in allowed:
                raise ZooError(f"task {spec!r}: unknown option {key!r}.{nearest(key, allowed)}")
            if key != "split" and not value.isdigit():
                raise ZooError(f"task {spec!r}: {key} is {value!r}; give a number")
            options[key] = value if key == "split" else int(value)
        return items(task=task, **options)
    if kind not in READERS or not separator:
        raise ZooError(f"unknown task {spec!r}.{nearest(kind, [SCENES, *READERS])} Write KIND:FILE or scenes:TASK")
    names, reader = READERS[kind]
    paths = rest.split(",")
    if len(paths) != len(names):
        raise ZooError(f"task {spec!r} has {len(paths)} files; write {kind}:{','.join(names)}")
    return reader(paths, media_root or str(Path(paths[0]).parent))


def support_spec(spec: str) -> str:
    """Where the demonstrations of a task come from by default: the training split of the same scenes.

    Raises ZooError for a task of files, whose training split has to be named.
    """
    kind, _, rest = spec.partition(":")
    if kind != SCENES:
        raise ZooError(f"task {spec!r}: name the training split that its demonstrations come from: --shot-pool SPEC")
    task, _, query = rest.partition("?")
    options = {**dict(parse_qsl(query, keep_blank_values=True)), "split": "train", "num_items": NUM_SUPPORT}
    return f"{SCENES}:{task}?{urlencode(options)}"


def load_support(spec: str, *, media_root: str | None = None) -> list[Item | Sample]:
    """Sources of demonstrations: items by a spec of ``load_items``, else samples by a spec of ``zoo.data.open``."""
    kind, separator, rest = spec.partition(":")
    if separator and (kind in READERS or (kind == SCENES and rest.partition("?")[0] in TASKS)):
        return list(load_items(spec, media_root=media_root))
    return list(open_data(spec, media_root=media_root))


def scene_specs(tasks: tuple[str, ...], num_items: int, seed: int, image_size: int | None) -> list[str]:
    """Specs of the tasks of a setting. Raises ZooError for an unknown task."""
    for task in tasks:
        if task not in TASKS:
            raise ZooError(f"unknown task {task!r}.{nearest(task, list(TASKS))}")
    size = "" if image_size is None else f"&image_size={image_size}"
    return [f"scenes:{task}?num_items={num_items}&seed={seed}{size}" for task in tasks]


def chance_levels(tasks: list[str]) -> dict[str, float]:
    """Accuracy of guessing, for the tasks where it is known; what stands in brackets behind a name does not matter."""
    return {task: chance(name) for task in tasks if (name := task.partition(" (")[0]) in TASKS}
