"""A method: configs of the four parts, template, box format and stages. ``under`` puts it in a controlled setting."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from zoo.config import LoraConfig, Stage, TrainingConfig, checked, from_dict, read_yaml
from zoo.connectors import ConnectorConfig
from zoo.data.boxes import get_box_codec
from zoo.data.frames import FrameSampling
from zoo.encoders import EncoderConfig
from zoo.errors import ZooError, nearest
from zoo.fusion import FusionConfig, Splice
from zoo.language import LanguageModelConfig

# transformers' names of the architectures that read the prompt in an encoder.
ENCODER_DECODERS = ("t5", "bart", "mbart", "pegasus")


@dataclass(frozen=True, kw_only=True)
class Method:
    """Everything that makes a method itself. Without an encoder it is blind: media take no place in the prompt.

    ``added_tokens`` get embedding and output rows of their own beside the language model's, and so do those of the box
    format (``vocabulary`` has both). ``exemptions`` maps a check of the contract test to the reason why this method
    cannot meet it. ``frames``: which frames of a video it looks at; None takes all that are given.
    """

    name: str = ""
    encoder: EncoderConfig | None = None
    connector: ConnectorConfig | None = None
    fusion: FusionConfig = field(default_factory=Splice)
    language_model: LanguageModelConfig
    template: str
    box_codec: str = "numerals"
    frames: FrameSampling | None = None
    added_tokens: tuple[str, ...] = ()
    lora: LoraConfig = field(default_factory=LoraConfig)
    stages: tuple[Stage, ...]
    exemptions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.encoder is None) != (self.connector is None):
            raise ZooError(f"method {self.name!r}: an encoder needs a connector and the reverse; give both or neither")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All tokens that the method adds: its own, then those that its box format is written with."""
        return (*self.added_tokens, *get_box_codec(self.box_codec).tokens)

    def stage(self, name: str) -> Stage:
        """The stage of that name. Raises ZooError naming the nearest match."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ZooError(f"{self.name} has no stage {name!r}.{nearest(name, [s.name for s in self.stages])}")

    def under(self, setting: "Setting") -> "tuple[Method, list[str]]":
        """This method with exactly the parts replaced that the setting fixes, and a line for each value overridden."""
        overrode: list[str] = []

        def fix(config: Any, values: dict[str, Any], where: str) -> Any:
            fixed = checked(dataclasses.replace(config, **values), where)
            for key in values:
                old, new = getattr(config, key), getattr(fixed, key)
                if old != new:
                    overrode.append(f"{where}.{key}: {old} -> {new}")
            return fixed

        def source(values: dict[str, Any], **rest: Any) -> dict[str, Any]:
            # Where other weights are given, what belonged to the method's own goes with them.
            return (
                {"id": "", "architecture": {}, **rest, **values} if {"id", "architecture"} & values.keys() else values
            )

        encoder = self.encoder
        if encoder is not None:
            layers = {"layers": setting.encoder_layers} if encoder.layers and setting.encoder_layers else {}
            encoder = fix(encoder, source({**setting.encoder, **layers}, revision=None), "encoder")
            if encoder.video is not None:
                video = fix(encoder.video, source(setting.encoder, revision=None), "encoder.video")
                encoder = dataclasses.replace(encoder, video=video)
        frames = self.frames
        if frames is not None:
            frames = fix(frames, setting.frames, "frames")
        connector, fusion = self.connector, self.fusion
        if connector is not None:
            values = setting.connector.get(connector.kind, {})
            if connector.initial and {"id", "architecture"} & setting.encoder.keys():
                values = {"initial": "", **values}
            connector = fix(connector, values, "connector")
        fusion = fix(fusion, setting.fusion.get(fusion.kind, {}), "fusion")
        values = setting.language_model
        if setting.encoder_decoder and self.language_model.model_type in ENCODER_DECODERS:
            values = setting.encoder_decoder
        language_model = fix(
            self.language_model,
            source(values, revision=None, tokenizer=None, overrides={}, has_added_tokens=False),
            "language_model",
        )
        stages = []
        for stage in self.stages:
            if stage.name not in setting.stages:
                raise ZooError(
                    f"setting {setting.name!r} has no budget for stage {stage.name!r} of {self.name}; "
                    f"it has {', '.join(setting.stages)}"
                )
            stages.append(fix(stage, setting.stages[stage.name], f"stages.{stage.name}"))
        changed = {"connector": connector, "fusion": fusion, "frames": frames, "stages": tuple(stages)}
        return dataclasses.replace(self, encoder=encoder, language_model=language_model, **changed), overrode


@dataclass(frozen=True, kw_only=True)
class EvaluationSetting:
    """Which tasks, on how many items each, decoded how. Greedy: temperature 0, one beam.

    ``prompt_form`` matters for templates whose published prompts differ between training and inference (LLaVA v0):
    inference is what released weights were used with, training is what a model trained here has seen. ``controls``:
    baselines to answer the tasks with as well (``zoo.evaluation.controls``; shuffled doubles the time).
    """

    tasks: tuple[str, ...]
    num_items: int
    seed: int = 0
    batch: int = 64
    max_new_tokens: int = 16
    prompt_form: str = "inference"
    controls: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a controlled comparison holds equal. The dicts hold the fields to fix of the part's or stage's config.

    ``connector`` and ``fusion`` go by kind: the sizes that a kind of module has beside this encoder and language model.
    ``frames`` goes for methods that choose frames of a video (the others take all that are given).
    ``encoder_layers``: the layers that methods which concatenate several read of this encoder, in place of theirs.
    A setting's file may name another as its ``base`` and hold only what differs from it.
    ``encoder_decoder`` is the language model of methods published with an encoder-decoder; without it they get the same
    one as the others.
    """

    name: str = ""
    description: str = ""
    encoder: dict[str, Any] = field(default_factory=dict)
    encoder_layers: tuple[int, ...] = ()
    connector: dict[str, dict[str, Any]] = field(default_factory=dict)
    fusion: dict[str, dict[str, Any]] = field(default_factory=dict)
    frames: dict[str, Any] = field(default_factory=dict)
    language_model: dict[str, Any] = field(default_factory=dict)
    encoder_decoder: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: EvaluationSetting
    seeds: tuple[int, ...] = (0, 1, 2)


def settings_folder() -> Path:
    """benchmarks/settings in a checkout, zoo/settings when installed from a wheel."""
    root = Path(__file__).resolve().parent
    beside = root.parent / "benchmarks" / "settings"
    return beside if beside.is_dir() else root / "settings"


def list_settings() -> list[str]:
    return sorted(path.stem for path in settings_folder().glob("*.yaml"))


def _setting_values(name: str, above: tuple[str, ...] = ()) -> tuple[Path, dict[str, Any]]:
    """The file of a setting, and its values over those of the setting that it names as its ``base``."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else settings_folder() / f"{name}.yaml"
    if not path.is_file():
        raise ZooError(f"unknown setting {name!r}.{nearest(name, list_settings())}")
    if name in above:
        raise ZooError(f"setting {name!r} is its own base ({' -> '.join((*above, name))}); leave out one base")
    values = read_yaml(path)
    base = values.pop("base", None)
    if base is not None:
        values = OmegaConf.to_container(OmegaConf.merge(_setting_values(base, (*above, name))[1], values))
    return path, values


def get_setting(name: str) -> Setting:
    """A setting by the name of its file in benchmarks/settings, or by a path to a YAML file."""
    path, values = _setting_values(name)
    setting = from_dict(Setting, {"name": path.stem, **values}, "")
    known = {
        "encoder": EncoderConfig,
        "language_model": LanguageModelConfig,
        "encoder_decoder": LanguageModelConfig,
        "frames": FrameSampling,
        **{f"stages.{stage}": Stage for stage in setting.stages},
    }
    # The kinds of a method's own module are known once its file is imported; then ``under`` checks the keys.
    for part, family in (("connector", ConnectorConfig), ("fusion", FusionConfig)):
        known |= {f"{part}.{kind}": family.kinds[kind] for kind in getattr(setting, part) if kind in family.kinds}
    for where, cls in known.items():
        part, _, name = where.partition(".")
        fields = [f.name for f in dataclasses.fields(cls)]
        for key in getattr(setting, part)[name] if name else getattr(setting, part):
            if key not in fields:
                raise ZooError(f"{path}: unknown key {where}.{key!r}.{nearest(key, fields)}")
    from_dict(TrainingConfig, setting.training, "training")
    return setting
