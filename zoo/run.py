"""One training run as data: the method, the seed and how steps are computed. Saved resolved with the run."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from zoo.config import Stage, TrainingConfig, from_dict, override, read_yaml, save_yaml
from zoo.definition import EvaluationSetting, Method, get_setting
from zoo.errors import ZooError, nearest
from zoo.registry import entry, get_method

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's result. ``setting`` and ``overrode`` say where values came from.

    ``label`` tells variants of one method apart in a comparison. ``merged``: parts whose adapters were folded into
    their weights after the training (``zoo merge``).
    """

    method: Method
    setting: str | None = None
    overrode: tuple[str, ...] = ()
    seed: int = 0
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationSetting | None = None
    label: str = ""
    merged: tuple[str, ...] = ()

    @property
    def saved_stages(self) -> tuple[Stage, ...]:
        """The stages as far as they say what is saved: a merged part was trained whole."""

        def modes(stage: Stage) -> dict[str, str]:
            return {key: "full" if key in self.merged and mode == "lora" else mode for key, mode in stage.train.items()}

        return tuple(dataclasses.replace(stage, train=modes(stage)) for stage in self.method.stages)

    @property
    def name(self) -> str:
        """What tables and folders call the run: its label, or the method's name."""
        return self.label or self.method.name


def resolve_run(
    name: str,
    setting: str | None = None,
    overrides: list[str] | None = None,
    *,
    seed: int = 0,
    data: dict[str, str] | None = None,
    media_root: str | None = None,
) -> RunConfig:
    """The config of a run: the method as published, put under the setting, then overridden.

    Args:
        overrides: ``key.sub=value``; keys of the method need no prefix (``connector.depth=3``,
            ``stages.align.steps=10``), keys of the run are ``training.*``, ``evaluation.*`` and ``seed``.
        data: stage name -> data spec; the name ``*`` stands for every stage.
        media_root: folder that the media paths of ``data`` are relative to (default: the folder of the file).

    Raises:
        ZooError: unknown method, setting, stage or key, with the nearest match.
    """
    method = get_method(name)
    training, evaluation, overrode = TrainingConfig(), None, []
    if setting is not None:
        fixed = get_setting(setting)
        method, overrode = method.under(fixed)
        training = from_dict(TrainingConfig, fixed.training, "training")
        evaluation = fixed.evaluation
    stages = {stage.name: stage for stage in method.stages}
    for stage_name, spec in (data or {}).items():
        if stage_name != "*":
            method.stage(stage_name)
        for target in stages if stage_name == "*" else [stage_name]:
            stages[target] = dataclasses.replace(stages[target], data=spec, media_root=media_root)
    method = dataclasses.replace(method, stages=tuple(stages.values()))
    config = RunConfig(
        method=method,
        setting=setting,
        overrode=tuple(overrode),
        seed=seed,
        training=training,
        evaluation=evaluation,
    )
    return override(config, [qualified(text) for text in overrides or []])


def qualified(text: str) -> str:
    """``connector.depth=3`` -> ``method.connector.depth=3``; keys of the run stay as they are."""
    if "=" not in text:
        raise ZooError(f"override {text!r} has no '='; write key=value")
    head = text.split("=", 1)[0].split(".", 1)[0]
    run_keys = [f.name for f in dataclasses.fields(RunConfig)]
    method_keys = [f.name for f in dataclasses.fields(Method)]
    if head in run_keys:
        return text
    if head in method_keys:
        return f"method.{text}"
    raise ZooError(f"unknown key {text.split('=', 1)[0]!r}.{nearest(head, [*run_keys, *method_keys])}")


def save_run(config: RunConfig, folder: Path) -> None:
    """Write the resolved config beside the run's results."""
    folder.mkdir(parents=True, exist_ok=True)
    save_yaml(config, folder / CONFIG_FILE)


def load_run(path: Path) -> RunConfig:
    """Read a resolved config: the YAML file or the folder that holds it."""
    file = path / CONFIG_FILE if path.is_dir() else path
    values = read_yaml(file)
    name = (values.get("method") or {}).get("name", "")
    # A method may define parts of its own; importing it makes their kinds known.
    entry(name)
    get_method(name)
    return from_dict(RunConfig, values)
