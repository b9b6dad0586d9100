"""Evaluation items by spec: tasks of the synthetic scenes, public benchmarks, or single annotation files."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from zoo.data.open import open_data
from zoo.data.pictures import PICTURE_TASKS, PICTURES, picture_chance, picture_items
from zoo.data.sample import Sample
from zoo.data.scenes import TASKS, chance, items
from zoo.errors import ZooError, nearest
from zoo.evaluation import files
from zoo.evaluation.benchmarks.registry import BENCHMARKS
from zoo.evaluation.benchmarks.request import is_request, read_request
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


def load_items(spec: str, *, media_root: str | None = None, template: str = "") -> list[Item]:
    """Items of one task.

    Args:
        spec: ``scenes:TASK?split=test&num_items=200&seed=0&image_size=64``, BENCHMARK:FOLDER with options
            (``zoo.evaluation.benchmarks.request``), or KIND:FILE[,FILE...] of ``READERS``
            (``pope:coco_pope_random.json``, ``vqa:questions.json,annotations.json``).
        media_root: folder of the images or videos; default: the folder of the first file, or the benchmark's.
        template: name of the method's conversation format, which decides how a benchmark is worded.

    Raises:
        ZooError: unknown kind, task or option, wrong number of files, a malformed file.
    """
    kind, separator, rest = spec.partition(":")
    if kind in (SCENES, PICTURES) and separator:
        task, _, query = rest.partition("?")
        options: dict = {"split": "test", "num_items": 200}
        allowed = ("split", "num_items", "seed") + (("image_size", "num_frames") if kind == SCENES else ())
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key not in allowed:
                raise ZooError(f"task {spec!r}: unknown option {key!r}.{nearest(key, allowed)}")
            if key != "split" and not value.isdigit():
                raise ZooError(f"task {spec!r}: {key} is {value!r}; give a number")
            options[key] = value if key == "split" else int(value)
        return items(task=task, **options) if kind == SCENES else picture_items(task, **options)
    if is_request(spec):
        return read_request(spec, template).items(media_root)
    if kind not in READERS or not separator:
        known = nearest(kind, [SCENES, PICTURES, *BENCHMARKS, *READERS])
        raise ZooError(f"unknown task {spec!r}.{known} Write BENCHMARK:FOLDER, KIND:FILE or scenes:TASK")
    names, reader = READERS[kind]
    paths = rest.split(",")
    if len(paths) != len(names):
        raise ZooError(f"task {spec!r} has {len(paths)} files; write {kind}:{','.join(names)}")
    return reader(paths, media_root or str(Path(paths[0]).parent))


def support_spec(spec: str) -> str:
    """Where the demonstrations of a task come from by default: the training split of the same scenes or benchmark.

    Raises ZooError for a task of files or a benchmark without one: the training split has to be named.
    """
    kind, _, rest = spec.partition(":")
    if is_request(spec) and (split := BENCHMARKS[kind].train):
        folder, _, query = rest.partition("?")
        style = dict(parse_qsl(query)).get("style")
        return f"{kind}:{folder}?{urlencode({'split': split} | ({'style': style} if style else {}))}"
    if kind not in (SCENES, PICTURES):
        raise ZooError(f"task {spec!r}: name the training split that its demonstrations come from: --shot-pool SPEC")
    task, _, query = rest.partition("?")
    options = {**dict(parse_qsl(query, keep_blank_values=True)), "split": "train", "num_items": NUM_SUPPORT}
    return f"{kind}:{task}?{urlencode(options)}"


def load_support(spec: str, *, media_root: str | None = None, template: str = "") -> list[Item | Sample]:
    """Sources of demonstrations: items by a spec of ``load_items``, else samples by a spec of ``zoo.data.open``."""
    kind, separator, rest = spec.partition(":")
    if is_request(spec) or (separator and (kind in READERS or _is_task(kind, rest.partition("?")[0]))):
        return list(load_items(spec, media_root=media_root, template=template))
    return list(open_data(spec, media_root=media_root))


def _is_task(kind: str, task: str) -> bool:
    return (kind == SCENES and task in TASKS) or (kind == PICTURES and task in PICTURE_TASKS)


def scene_specs(tasks: tuple[str, ...], num_items: int, seed: int, image_size: int | None) -> list[str]:
    """Specs of the tasks of a setting. Raises ZooError for an unknown task."""
    size = "" if image_size is None else f"&image_size={image_size}"
    specs = []
    for task in tasks:
        if task not in (*TASKS, *PICTURE_TASKS):
            raise ZooError(f"unknown task {task!r}.{nearest(task, [*TASKS, *PICTURE_TASKS])}")
        kind, query = (SCENES, size) if task in TASKS else (PICTURES, "")
        specs.append(f"{kind}:{task}?num_items={num_items}&seed={seed}{query}")
    return specs


def chance_levels(tasks: list[str]) -> dict[str, float]:
    """Accuracy of guessing, for the tasks where it is known; what stands in brackets behind a name does not matter."""
    names = {task: task.partition(" (")[0] for task in tasks}
    levels = {task: chance(name) for task, name in names.items() if name in TASKS}
    pictures = {task: picture_chance(name) for task, name in names.items() if name in PICTURE_TASKS}
    return levels | {task: level for task, level in pictures.items() if level is not None}
