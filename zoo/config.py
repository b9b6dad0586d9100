"""Configuration: frozen dataclasses, overridden as ``key.sub=value`` through OmegaConf, saved resolved with every run.

A part that comes in several kinds (connector, fusion) is a dataclass with a ``kind`` field; in YAML the kind chooses
the class. A method that brings a connector of its own only defines it: subclasses of ``PartConfig`` register by kind.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import Container, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from zoo.errors import ZooError, nearest

PARTS = ("encoder", "connector", "fusion", "language_model")
ADDED_TOKENS = "added_tokens"
# The rows of added tokens are parameters of this name, beside ``weight`` (zoo/language/added_vocabulary.py).
ADDED_SUFFIX = ".added"
TUNING_MODES = ("frozen", "full", "lora")
SCHEDULES = ("cosine", "constant")
OBJECTIVES = ("language_modeling", "connector", "contrastive")


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """Base of the configs that come in kinds. A direct subclass opens a family (connector, fusion)."""

    kind: str = ""
    kinds: ClassVar[dict[str, type["PartConfig"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if PartConfig in cls.__bases__:
            cls.kinds = {}
        elif kind := cls.__dict__.get("kind"):
            known = cls.kinds.setdefault(kind, cls)
            assert known.__qualname__ == cls.__qualname__, f"two classes of kind {kind!r}: {known} and {cls}"


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """h = W x + (alpha / rank) B A dropout(x) on every linear layer of a part in mode ``lora`` (heads excluded)."""

    rank: int = 128
    alpha: float = 256.0
    dropout: float = 0.05


@dataclass(frozen=True)
class Stage:
    """One training stage. ``train`` maps parts to frozen | full | lora; a part that is not named is frozen.

    A key may go deeper than a part: ``connector.projection`` is that submodule, ``added_tokens`` the rows of the added
    tokens in embedding and head. The most specific key counts, in ``part_lr`` and ``part_weight_decay`` too.
    ``batch`` counts samples per optimizer step over all devices and accumulation. ``steps`` wins over ``epochs``.
    ``objective``: the language model's loss on the answers, or the ``connector``'s own loss on media and answers, in
    which the language model takes no part (BLIP-2's first stage), or ``contrastive``: the mean soft token of a medium
    finds the mean word embedding of its answer among those of the batch (``zoo.connectors.alignment``).
    ``schedule``: how the rate goes on after the warm-up, cosine to zero or constant.
    ``part_lr`` overrides ``lr`` for single parts. ``template`` overrides the method's (LLaVA's align stage uses plain).
    Media paths in ``data`` are relative to ``media_root``, by default the folder of the data file.
    """

    name: str
    _: KW_ONLY
    data: str
    train: dict[str, str]
    lr: float
    part_lr: dict[str, float] = field(default_factory=dict)
    batch: int = 128
    epochs: float = 1.0
    steps: int | None = None
    warmup: float = 0.03
    schedule: str = "cosine"
    weight_decay: float = 0.0
    part_weight_decay: dict[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float = 1.0
    objective: str = "language_modeling"
    template: str | None = None
    max_length: int = 2048
    media_root: str | None = None

    def __post_init__(self) -> None:
        for where in ("train", "part_lr", "part_weight_decay"):
            for key in getattr(self, where):
                part = key.partition(".")[0]
                if part not in PARTS and key != ADDED_TOKENS:
                    known = (*PARTS, ADDED_TOKENS)
                    raise ZooError(f"stage {self.name!r}: unknown part {part!r} in {where}.{nearest(part, known)}")
        for part, mode in self.train.items():
            if mode not in TUNING_MODES:
                raise ZooError(f"stage {self.name!r}: {part} cannot be {mode!r}.{nearest(mode, TUNING_MODES)}")
            if mode == "lora" and part not in PARTS:
                raise ZooError(f"stage {self.name!r}: adapters go into whole parts, not {part!r}; use full or frozen")
        if self.schedule not in SCHEDULES:
            raise ZooError(
                f"stage {self.name!r}: unknown schedule {self.schedule!r}.{nearest(self.schedule, SCHEDULES)}"
            )
        if self.objective not in OBJECTIVES:
            hint = nearest(self.objective, OBJECTIVES)
            raise ZooError(f"stage {self.name!r}: unknown objective {self.objective!r}.{hint}")
        if self.batch < 1:
            raise ZooError(f"stage {self.name!r}: batch is {self.batch}; it counts samples per step, at least 1")

    def mode(self, key: str) -> str:
        """The tuning mode of a parameter by its canonical name (``connector.projection.weight``)."""
        return most_specific(self.train, key, "frozen")


def most_specific(values: Mapping[str, Any], key: str, default: Any) -> Any:
    """The entry for a parameter's canonical name: of its part, a submodule of it, or the added tokens' rows."""
    if ADDED_TOKENS in values and key.endswith(ADDED_SUFFIX):
        return values[ADDED_TOKENS]
    fitting = [prefix for prefix in values if f"{key}.".startswith(f"{prefix}.")]
    return values[max(fitting, key=len)] if fitting else default


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the steps are computed; none of it changes what is learned beyond rounding.

    ``micro_batch`` is the number of rows per forward and device. ``packing`` puts several samples in a row behind a
    document mask; ``group_by_length`` sorts the samples of a step so that rows of a micro-batch pad little.
    ``precision`` is fp32 | bf16 | fp16 (mixed). ``save_every`` 0 saves at the end of a stage only.
    """

    micro_batch: int = 16
    packing: bool = False
    group_by_length: bool = False
    precision: str = "fp32"
    gradient_checkpointing: bool = False
    attention: str = "auto"
    deterministic: bool = True
    num_workers: int = 0
    log_every: int = 1
    save_every: int = 0
    keep_checkpoints: int = 1
    tensorboard: bool = True


def kind_class(annotation: Any) -> type | None:
    """The dataclass inside ``X``, ``X | None`` or ``tuple[X, ...]``, if there is one."""
    if dataclasses.is_dataclass(annotation):
        return annotation
    for argument in typing.get_args(annotation):
        if found := kind_class(argument):
            return found
    return None


def from_dict(cls: type, values: dict[str, Any], where: str = "") -> Any:
    """A config dataclass from plain values (a YAML file), below the key ``where``.

    Raises:
        ZooError: an unknown key (with the nearest match), a missing one, or a value of the wrong type.
    """
    return checked(_build(cls, values, where), where)


def _build(cls: type, values: dict[str, Any], where: str) -> Any:
    if issubclass(cls, PartConfig):
        kind = values.get("kind", "")
        if kind not in cls.kinds:
            raise ZooError(f"{where or cls.__name__}: unknown kind {kind!r}.{nearest(str(kind), list(cls.kinds))}")
        cls = cls.kinds[kind]
    names = [f.name for f in dataclasses.fields(cls)]
    annotations = typing.get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else key
        if key not in names:
            raise ZooError(f"unknown key {path!r}.{nearest(key, names)}")
        inner = kind_class(annotations[key])
        if inner and isinstance(value, dict):
            is_mapping = typing.get_origin(annotations[key]) is dict
            value = (
                {name: _build(inner, entry, f"{path}.{name}") for name, entry in value.items()}
                if is_mapping
                else _build(inner, value, path)
            )
        elif inner and isinstance(value, list | tuple):
            value = tuple(_build(inner, entry, f"{path}.{i}") for i, entry in enumerate(value))
        elif typing.get_origin(annotations[key]) is tuple and isinstance(value, list):
            value = tuple(value)
        arguments[key] = value
    try:
        return cls(**arguments)
    except (TypeError, AttributeError) as error:
        reason = str(error).rpartition("() ")[2]
        fix = "add the key" if "missing" in reason else "mend its values"
        raise ZooError(f"{where or cls.__name__}: {reason}; {fix}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Plain dicts and lists, ready for YAML or JSON; ``from_dict`` reads them back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value

    return plain(dataclasses.asdict(config))


def _tree(config: Any, where: str) -> Container:
    try:
        tree = OmegaConf.structured(config)
        _make_writable(tree)
    except OmegaConfBaseException as error:
        path = ".".join(str(part) for part in (where, error.full_key) if part)
        raise ZooError(f"{path}: {str(error).splitlines()[0]}") from None
    return tree


def _make_writable(node: Container) -> None:
    # OmegaConf marks the nodes of frozen dataclasses read-only, each by itself.
    OmegaConf.set_readonly(node, None)
    for key in node if OmegaConf.is_dict(node) else range(len(node)):
        if isinstance(child := node[key], Container):
            _make_writable(child)


def checked(config: Any, where: str = "") -> Any:
    """A copy of a config dataclass with every type checked, and lists where tuples are meant turned into those.

    Raises:
        ZooError: a value of the wrong type, below the key ``where``.
    """
    return OmegaConf.to_object(_tree(config, where))


def _resolve(node: Any, keys: list[str], full: str) -> list[str]:
    """Turn names of list entries (``stages.align``) into indices; an unknown key names its nearest match."""
    if not keys:
        return []
    head, rest = keys[0], keys[1:]
    if isinstance(node, Container) and not OmegaConf.is_dict(node):
        names = [str(entry.get("name", i)) if OmegaConf.is_dict(entry) else str(i) for i, entry in enumerate(node)]
        if head in names:
            head = str(names.index(head))
        elif not (head.isdigit() and int(head) < len(node)):
            raise ZooError(f"unknown key {full!r}: no entry {head!r}.{nearest(head, names)}")
        return [head, *_resolve(node[int(head)], rest, full)]
    if OmegaConf.is_dict(node):
        is_free = OmegaConf.get_type(node) is dict
        if not is_free and head not in node:
            raise ZooError(f"unknown key {full!r}: no field {head!r}.{nearest(head, [str(k) for k in node])}")
        return [head, *_resolve(node.get(head), rest, full)]
    what = "a part that is not there (null)" if node is None else "a plain value"
    raise ZooError(f"unknown key {full!r}: {head!r} lies below {what}")


def _parse(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ZooError(f"override {text!r} has no '='; write key=value")
    try:
        parsed = OmegaConf.from_dotlist([f"value={value}"])
        return key, OmegaConf.to_container(parsed)["value"]  # type: ignore[index,call-overload]
    except (OmegaConfBaseException, YAMLError) as error:
        raise ZooError(f"override {text!r} is no YAML value ({' '.join(str(error).split())}); mend it") from None


def _exchange_part(config: Any, keys: list[str], value: Any, where: str) -> Any | None:
    """The config with the part at ``keys`` exchanged whole; None where the key and value mean no such exchange."""
    key, *rest = keys
    hints = typing.get_type_hints(type(config))
    cls = kind_class(hints[key]) if key in hints else None
    if cls is None:
        return None
    old = getattr(config, key)
    if issubclass(cls, PartConfig):
        if rest == ["kind"] and old is not None and old.kind == value:
            return config
        if rest not in ([], ["kind"]) or not (isinstance(value, str) or (isinstance(value, dict) and "kind" in value)):
            return None
        new = from_dict(cls, {"kind": value} if isinstance(value, str) else value, where.removesuffix(".kind"))
    elif rest and dataclasses.is_dataclass(old):
        new = _exchange_part(old, rest, value, where)
    else:
        return None
    return None if new is None else dataclasses.replace(config, **{key: new})


def override(config: Any, overrides: "list[str] | dict[str, Any]") -> Any:
    """A copy of a config dataclass with ``key.sub=value`` applied and every type checked.

    Entries of a list that have a name are addressed by it: ``stages.instruct.lr=1e-4``. A part of several kinds can be
    exchanged whole by its kind: ``connector=linear``. A mapping of free keys is replaced: ``train={connector: full}``.

    Raises:
        ZooError: unknown key (with the nearest match), or a value of the wrong type.
    """
    pairs = list(overrides.items()) if isinstance(overrides, dict) else [_parse(text) for text in overrides]
    pairs = [(key, dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value) for key, value in pairs]
    remaining = []
    for key, value in pairs:
        exchanged = _exchange_part(config, key.split("."), value, key)
        if exchanged is None:
            remaining.append((key, value))
        else:
            config = exchanged
    tree = _tree(config, "")
    for key, value in remaining:
        path = ".".join(_resolve(tree, key.split("."), key))
        old = OmegaConf.select(tree, path)
        is_free = OmegaConf.is_dict(old) and OmegaConf.get_type(old) is dict
        try:
            OmegaConf.update(tree, path, value, merge=not is_free)
            OmegaConf.to_container(tree, resolve=True)
        except OmegaConfBaseException as error:
            raise ZooError(f"{key}={value}: {str(error).splitlines()[0]}") from None
    return OmegaConf.to_object(tree)


def save_yaml(config: Any, path: Path) -> None:
    """Write a config dataclass; the counterpart of ``read_yaml``."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping as plain containers. Raises ZooError for a missing or malformed file."""
    if not path.is_file():
        raise ZooError(f"no such file: {path}; check the path")
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:
        raise ZooError(f"{path} is not valid YAML: {' '.join(str(error).split())}; mend the file") from None
    if not isinstance(values, dict):
        raise ZooError(f"{path} holds no mapping of keys to values; see benchmarks/settings for examples")
    return values  # type: ignore[return-value]


def differences(first: dict[str, Any], second: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(key, first value, second value) of every leaf in which two config dicts differ; absent reads as None."""
    found = []
    for key in sorted({*first, *second}):
        a, b = first.get(key), second.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif isinstance(a, list) and isinstance(b, list) and all(isinstance(x, dict) for x in a + b) and (a or b):
            by_name = [{str(x.get("name", i)): x for i, x in enumerate(entries)} for entries in (a, b)]
            found += differences(by_name[0], by_name[1], f"{prefix}{key}.")
        elif a != b:
            found.append((f"{prefix}{key}", a, b))
    return found
