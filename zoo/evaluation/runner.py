"""Answer evaluation items with a model, score them, and keep every prediction on disk so that a run can go on."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from zoo.data.batch import Example, Preprocessor, pad
from zoo.data.boxes import get_box_codec
from zoo.data.encode import stop_ids, stop_strings
from zoo.data.sample import Message
from zoo.data.template import Template, render_text
from zoo.data.templates import get_template
from zoo.errors import ZooError
from zoo.evaluation.benchmarks.answers import INFO_KEY as BENCHMARK
from zoo.evaluation.benchmarks.answers import read_answer
from zoo.evaluation.capabilities import needs, refuse_missing, support, support_of_task
from zoo.evaluation.decoding import Decoding
from zoo.evaluation.few_shot import INFO_KEY
from zoo.evaluation.image_choice import beside_each_medium, chosen
from zoo.evaluation.items import Item
from zoo.evaluation.metrics import metric_version, score
from zoo.model import VLM


@torch.no_grad()
def generate_answers(
    model: VLM, examples: Sequence[Example], template: Template, *, max_new_tokens: int, **options: Any
) -> list[str]:
    """Answers to a batch of generation prompts, special tokens (but those of boxes) and end of turn removed.

    ``options`` go to transformers' generate; without any the search is greedy.
    """
    tokenizer = model.language_model.tokenizer
    kept = set(tokenizer.convert_tokens_to_ids(list(get_box_codec(model.method.box_codec).tokens)))
    strings = stop_strings(template, tokenizer)
    if strings:
        options |= {"stop_strings": list(strings), "tokenizer": tokenizer}
    batch = pad(examples, pad_id=tokenizer.pad_token_id, side="left").to(model.device)
    answers = []
    for ids in model.generate(batch, max_new_tokens=max_new_tokens, stop_ids=stop_ids(template, tokenizer), **options):
        text = _decoded(tokenizer, ids, kept)
        for string in strings:
            text = text.split(string, 1)[0]
        answers.append(text.strip())
    return answers


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], kept: set[int]) -> str:
    """Special tokens removed, except those of ``kept``."""
    if kept.isdisjoint(ids):
        return tokenizer.decode(ids, skip_special_tokens=True)
    special = {*tokenizer.all_special_ids, *(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)}
    return tokenizer.decode([i for i in ids if i not in special or i in kept], skip_special_tokens=False)


@torch.no_grad()
def score_answers(model: VLM, examples: Sequence[Example], *, normalisation: str = "sum") -> list[float]:
    """Log-probability of the supervised tokens of each example: their sum, or their mean."""
    batch = pad(examples, pad_id=model.language_model.tokenizer.pad_token_id).to(model.device)
    padded = pad_sequence(model.score(batch), batch_first=True)
    totals = padded.sum(1)
    if normalisation == "mean":
        totals = totals / torch.tensor([example.num_supervised for example in examples], device=totals.device)
    return totals.tolist()


class Evaluator:
    """Evaluates one model under one decoding. ``label`` holds what every row repeats: method and seed.

    ``template``: the conversation around the questions; default: the method's own.
    """

    def __init__(
        self,
        model: VLM,
        *,
        decoding: Decoding,
        batch: int = 64,
        label: dict[str, Any] | None = None,
        template: Template | None = None,
    ) -> None:
        self.model, self.decoding, self.batch = model, decoding, batch
        self.label = label or {"method": model.method.name, "seed": 0}
        template = template or get_template(model.method.template)
        self.template = template if decoding.prompt_form == "inference" else replace(template, inference=None)
        self.preprocessor: Preprocessor = model.preprocessor()

    def evaluate(
        self, items: Sequence[Item], out: Path | None = None, *, on_item: Callable[[int], None] | None = None
    ) -> list[dict[str, Any]]:
        """Rows of predictions in the order of the items. With ``out``, rows already there are kept, not computed again.

        Raises:
            ZooError: ``out`` holds predictions of another decoding, metric version or other demonstrations; unreadable
                media; demonstrations that the language model has no positions for; a task that the method has neither
                a form nor a fallback for.
        """
        if items:
            name = self.model.method.name
            refuse_missing(name, items[0].task, support_of_task(name, items))
        done = self._read(out) if out else {}
        for item in items:
            shown = _few_shot(item).get("demonstrations")
            if (row := done.get(item.sample.id)) and row.get("demonstrations") != shown:
                raise ZooError(
                    f"{out}: item {item.sample.id!r} was answered with other demonstrations; choose another --out"
                )
        rest = [item for item in items if item.sample.id not in done]
        if on_item:
            on_item(len(items) - len(rest))
        for start in range(0, len(rest), self.batch):
            chunk = rest[start : start + self.batch]
            rows = self._answer(chunk)
            done |= {row["id"]: row for row in rows}
            if out:
                out.parent.mkdir(parents=True, exist_ok=True)
                with out.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
            if on_item:
                on_item(len(chunk))
        return [done[item.sample.id] for item in items]

    def _read(self, out: Path) -> dict[str, dict[str, Any]]:
        if not out.exists():
            return {}
        lines = out.read_text().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):  # the run was killed while writing this line
            lines = lines[:-1]
            out.write_text("".join(lines))
        rows = [json.loads(line) for line in lines]
        for row in rows:
            for key, expected in (
                ("decoding", self.decoding.describe()),
                ("metric_version", metric_version(row["metric"])),
                *self.label.items(),
            ):
                if row[key] != expected:
                    raise ZooError(
                        f"{out} holds predictions with {key} {row[key]!r}, now it is {expected!r}; choose another --out"
                    )
        return {row["id"]: row for row in rows}

    def _answer(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        if items[0].other_media:
            return [self._choose_image(item) for item in items]
        return self._greedy(items) if self.decoding.mode == "greedy" else self._likelihood(items)

    def _choose_image(self, item: Item) -> dict[str, Any]:
        """Loss a token of the reference beside its own medium and beside each other one; the lowest is the answer."""
        examples = [self.preprocessor(sample, self.template) for sample in beside_each_medium(item)]
        losses = [-score for score in score_answers(self.model, examples, normalisation="mean")]
        own, others = losses[0], losses[1:]
        row = self._row(item, examples[0], chosen(losses))
        return row | {"loss": {"own": own, "others": sum(others) / len(others)}}

    def _greedy(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        examples = [self.preprocessor(item.sample, self.template, generation=True) for item in items]
        for item, example in zip(items, examples):
            self._check_room(item, len(example) + self.decoding.max_new_tokens)
        # Rows of similar length pad little; greedy answers do not depend on their neighbours.
        order = sorted(range(len(items)), key=lambda i: len(examples[i]))
        answers = generate_answers(
            self.model,
            [examples[i] for i in order],
            self.template,
            max_new_tokens=self.decoding.max_new_tokens,
            **self.decoding.generation,
        )
        rows: list[dict[str, Any]] = [{}] * len(items)
        for i, answer in zip(order, answers):
            rows[i] = self._row(items[i], examples[i], answer)
        return rows

    def _likelihood(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        rows = []
        for item in items:
            if not item.candidates:
                raise ZooError(f"item {item.sample.id!r} has no candidates to rank; use greedy decoding for this task")
            examples = []
            for candidate in item.candidates:
                answer = Message(role="assistant", content=candidate)
                sample = replace(item.sample, messages=(*item.sample.messages, answer))
                examples.append(self.preprocessor(sample, self.template))
                self._check_room(item, len(examples[-1]))
            scores = score_answers(self.model, examples, normalisation=self.decoding.normalisation)
            best = max(range(len(scores)), key=scores.__getitem__)
            row = self._row(item, examples[best], item.candidates[best])
            rows.append(row | {"candidate_scores": dict(zip(item.candidates, scores))})
        return rows

    def _check_room(self, item: Item, length: int) -> None:
        """Demonstrations beyond the last position are answered anyway, badly: their score would say nothing."""
        room = getattr(self.model.language_model.model.config, "max_position_embeddings", None)
        if _few_shot(item) and room is not None and length > room:
            raise ZooError(
                f"item {item.sample.id!r} with its demonstrations takes {length} positions, the language model has "
                f"{room}; use fewer shots"
            )

    def _row(self, item: Item, example: Example, prediction: str) -> dict[str, Any]:
        parse_box = None
        if item.answers_with_box:
            geometries = example.geometries or self.preprocessor.geometries(item.sample)
            geometry = geometries[item.boxes[0].medium if item.boxes else 0]
            codec = self.preprocessor.box_codec

            def parse_box(text: str) -> Any:
                return codec.decode(text, geometry)

        if BENCHMARK in item.sample.info:
            # Its metric scores all answers together, when they are there.
            found = read_answer(item, prediction, parse_box=parse_box)
        else:
            result = score(item, prediction, parse_box=parse_box)
            found = {"parsed": result.parsed, "score": result.value}
        prompt = render_text(self.template.render(item.sample.messages, generation=True, sample_id=item.sample.id))
        return {
            "id": item.sample.id,
            "group": item.sample.group or item.sample.id,
            "task": item.task,
            "question": item.sample.messages[-1].content,
            "prompt": prompt,
            "prediction": prediction,
            **found,
            "references": list(item.references),
            "metric": item.metric,
            "metric_version": metric_version(item.metric),
            "decoding": self.decoding.describe(),
            "fallbacks": list(support(self.model.method.name, needs(item)).fallbacks),
            "unseen": bool(item.sample.info.get("unseen", False)),
            **_few_shot(item),
            **self.label,
        }


def _few_shot(item: Item) -> dict[str, Any]:
    """What the rows of an item record about its demonstrations; empty without any."""
    return item.sample.info.get(INFO_KEY, {})
