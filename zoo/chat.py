"""A conversation with a model about images and videos, and where ``zoo chat`` finds the model."""

import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from zoo.data.sample import MEDIA_PLACEHOLDERS, PLACEHOLDER_PATTERN, Box, Medium, Message, Sample
from zoo.data.template import Template
from zoo.data.templates import get_template
from zoo.definition import EvaluationSetting, get_setting
from zoo.errors import ZooError, nearest
from zoo.evaluation.capabilities import FALLBACKS, support
from zoo.evaluation.runner import generate_answers
from zoo.loading import SHIPPED_SETTING, load, locate, shipped_weights
from zoo.model import VLM
from zoo.registry import entries, entry
from zoo.run import CONFIG_FILE, load_run

HELP = "/image FILE, /video FILE, /reset, /quit; a box is written as <box X0 Y0 X1 Y1>, in pixels of the last medium"
_BOX = re.compile(r"<box ([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+)>")


@dataclass(kw_only=True)
class Chat:
    """The turns so far with what they show. ``ask`` adds one; media that are shown belong to the next question."""

    model: VLM
    template: Template
    max_new_tokens: int = 128
    messages: list[Message] = field(default_factory=list)
    media: list[Medium] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    waiting: list[Medium] = field(default_factory=list)

    def show(self, kind: str, file: "str | Path") -> None:
        """An image or a video (a file, or a folder of frames). Raises ZooError where there is none."""
        if not Path(file).exists():
            raise ZooError(f"no such {kind}: {file}; check the path")
        self.waiting.append(Medium(kind=kind, source=Path(file)))

    def reset(self) -> None:
        """Forget all turns and media."""
        for turns in (self.messages, self.media, self.boxes, self.waiting):
            turns.clear()

    def ask(self, text: str) -> str:
        """The answer to the next question. Where one cannot be answered (ZooError), the conversation stays as it was.

        Media without a placeholder in the text stand before it.
        """
        media = [*self.media, *self.waiting]
        corners = [[float(number) for number in found.groups()] for found in _BOX.finditer(text)]
        boxes = [
            *self.boxes,
            *(Box(x0=x0, y0=y0, x1=x1, y1=y1, medium=len(media) - 1) for x0, y0, x1, y1 in corners),
        ]
        text = _BOX.sub("<box>", text)
        placed = [mark for mark in PLACEHOLDER_PATTERN.findall(text) if mark in MEDIA_PLACEHOLDERS.values()]
        marks = [MEDIA_PLACEHOLDERS[medium.kind] for medium in self.waiting] if not placed else []
        messages = [*self.messages, Message(role="user", content="".join(f"{mark}\n" for mark in marks) + text)]
        sample = Sample(id="chat", messages=tuple(messages), media=tuple(media), boxes=tuple(boxes)).validate()
        example = self.model.preprocessor()(sample, self.template, generation=True)
        answer = generate_answers(self.model, [example], self.template, max_new_tokens=self.max_new_tokens)[0]
        # What a model writes refers to no medium of ours, even where it looks like it.
        self.messages = [*messages, Message(role="assistant", content=PLACEHOLDER_PATTERN.sub("", answer))]
        self.media, self.boxes, self.waiting = media, boxes, []
        return answer

    def notes(self) -> list[str]:
        """How what was shown is given to a method that was not made for it."""
        kinds = [medium.kind for medium in self.media]
        needed = {
            *kinds,
            *(["multi_image"] if kinds.count("image") > 1 else []),
            *(["region_in"] if self.boxes else []),
        }
        return [FALLBACKS[name] for name in support(self.model.method.name, needed).fallbacks]


def open_chat(
    name: str,
    *,
    weights: str | None = None,
    base: str | None = None,
    setting: str | None = None,
    max_new_tokens: int = 128,
    dtype: str | None = None,
) -> Chat:
    """A conversation with a model, on the accelerator where there is one.

    Args:
        name: a method of the registry, or a folder or hub id of a model.
        weights: folder or hub id of a method's weights; default: those shipped with the package.
        base: the language model that released weights belong to, where they hold none.
        setting: whose shipped weights, and whose form of the prompts; default: ``scenes-tiny``, and the run's own.
        dtype: of the parameters; default: float32 on a CPU, bfloat16 on an accelerator.

    Raises:
        ZooError: no such model, weights of another method, none for this method.
    """
    folder = _find(name, weights, setting)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    chosen = dtype or ("float32" if device.type == "cpu" else "bfloat16")
    model = load(folder, dtype=getattr(torch, chosen), device=device, base=base)
    if weights is not None and model.method.name != name:
        raise ZooError(f"{weights} holds weights of {model.method.name!r}, not of {name!r}; give that name")
    evaluation = get_setting(setting).evaluation if setting else _evaluation_of(folder)
    template = get_template(model.method.template)
    if evaluation is not None and evaluation.prompt_form == "training":
        template = replace(template, inference=None)
    return Chat(model=model, template=template, max_new_tokens=max_new_tokens)


def _evaluation_of(folder: Path) -> EvaluationSetting | None:
    return load_run(folder / CONFIG_FILE).evaluation if (folder / CONFIG_FILE).is_file() else None


def _find(name: str, weights: str | None, setting: str | None) -> Path:
    if weights is not None:
        if name not in entries():
            raise ZooError(f"--weights goes with a method, not with {name!r}.{nearest(name, list(entries()))}")
        return locate(weights)
    if name not in entries():
        return locate(name)
    setting = setting or SHIPPED_SETTING
    shipped = shipped_weights(setting)
    if name in shipped:
        return shipped[name]
    there = f"there are {', '.join(shipped) or 'none'}"
    released = ", ".join(row["id"] for row in entry(name)["weights"]) or "none were released"
    raise ZooError(f"no weights of {name} come with {setting} ({there}); give --weights ID_OR_FOLDER ({released})")


def talk(chat: Chat) -> None:
    """Questions from the terminal until its end."""
    print(f"{chat.model.method.name}; {HELP}")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        command, _, rest = line.partition(" ")
        try:
            if command == "/quit":
                return
            if command == "/reset":
                chat.reset()
            elif command in ("/image", "/video"):
                chat.show(command[1:], rest.strip())
            elif command.startswith("/"):
                print(HELP)
            elif line:
                print(answer(chat, line))
        except ZooError as error:
            print(f"zoo: {error}")


def answer(chat: Chat, text: str) -> str:
    """The answer; what the method was not made for is said on stderr."""
    before = chat.notes() if chat.messages else []
    written = chat.ask(text)
    for note in chat.notes():
        if note not in before:
            print(f"zoo: note: {note}", file=sys.stderr)
    return written
