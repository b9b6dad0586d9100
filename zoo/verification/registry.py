"""Which references are known, and how each is run on our side.

A whole model is loaded by its layout and run on the reference's inputs; a part of a model is built and run by a
function of its own. Both are found by the class of transformers, or by the beginning of what a case says ran.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from zoo.data.batch import Batch
from zoo.errors import ZooError, nearest
from zoo.model import VLM
from zoo.verification.case import Case, Probe
from zoo.verification.report import Report
from zoo.weights import Layout, detect, load_released
from zoo.weights.files import open_weights

Part = Callable[[Case, Report], None]


class Arguments:
    """The inputs of a probe, as arguments of the reference. Each has to be asked for: none is left out silently."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self._unread = set(probe.inputs)

    def get(self, name: str) -> Tensor | None:
        self._unread.discard(name)
        return self.probe.inputs.get(name)

    def require(self, name: str) -> Tensor:
        value = self.get(name)
        if value is None:
            raise ZooError(f"the probe has no {name}; store it among the inputs")
        return value

    def check_all_read(self) -> None:
        if self._unread:
            raise ZooError(f"no place for the inputs {', '.join(sorted(self._unread))}")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A probe's inputs as our model takes them.

    ``media``: which of the reference's media the batch holds, by their numbers there; None: all. ``stop_ids``: what
    ends generation, where it is not the language model's end token.
    """

    batch: Batch
    media: Sequence[int] | None = None
    stop_ids: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model of ours with the case's weights, and the layout that names them as grads.json does."""

    model: VLM
    layout: Layout


def load_by_layout(case: Case) -> Loaded:
    """The layout is recognised from config.json and keys. Raises ZooError for an unknown one, or misfitting weights."""
    layout = detect(case.config, open_weights(case.folder).keys(), where=str(case.folder))
    return Loaded(model=load_released(case.folder), layout=layout)


@dataclass(frozen=True, kw_only=True)
class WholeModel:
    """How a reference's model is run as ours.

    Args:
        read: (arguments, our model, case) -> the batch; None for a probe that is no run of the model.
        extra: compares what lies inside the model.
        load: where the layout of the folder is not one that ``zoo.weights`` recognises.
        embeddings: the output that holds the language model's input embeddings.
        attention_mask: the output that says which places of the widened rows are real; labels: what they learn.
        soft_tokens: outputs that hold what the connector made of all media; of images alone; of videos alone.
        frozen: our parts that the reference runs without gradient.
        num_start_tokens: ids in front of the generated ones, in what the reference's ``generate`` returns.
    """

    read: Callable[[Arguments, VLM, Case], Reading | None]
    extra: Callable[[Case, VLM, Report], None] | None = None
    load: Callable[[Case], Loaded] = load_by_layout
    embeddings: str = "inputs_embeds"
    attention_mask: str = ""
    labels: str = ""
    soft_tokens: tuple[str, ...] = ("projected",)
    image_tokens: tuple[str, ...] = ("image_hidden_states",)
    video_tokens: tuple[str, ...] = ("video_hidden_states",)
    frozen: tuple[str, ...] = ()
    num_start_tokens: int = 0


_REFERENCES: dict[str, WholeModel | Part] = {}


def whole_model(*names: str, **facts: object) -> Callable[[Callable], Callable]:
    """Decorator of a ``read`` function: these references are whole models; ``facts`` are fields of ``WholeModel``."""

    def register(read: Callable[[Arguments, VLM, Case], Reading | None]) -> Callable:
        reference = replace(WholeModel(read=read), **facts)
        _REFERENCES.update(dict.fromkeys(names, reference))
        return read

    return register


def part(*names: str) -> Callable[[Part], Part]:
    """Decorator of a function that runs a part of a model and compares what it gives."""

    def register(run: Part) -> Part:
        _REFERENCES.update(dict.fromkeys(names, run))
        return run

    return register


def find(case: Case) -> WholeModel | Part:
    """Raises ZooError, with the nearest name, for a reference that nobody has written down."""
    import zoo.verification.references  # noqa: F401  (registers)

    name = case.reference
    known = max((known for known in _REFERENCES if name.startswith(known)), key=len, default=None)
    if known is None:
        raise ZooError(f"{case.folder}: nothing here runs what {name!r} ran.{nearest(name, list(_REFERENCES))}")
    return _REFERENCES[known]
