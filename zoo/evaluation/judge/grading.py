"""Grade the answers to a benchmark with a judge, by the published prompt; replies are kept, so that a run goes on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.judge.judges import Judge, fingerprint
from zoo.evaluation.metrics import MetricResult, get_metric

Row = Mapping[str, Any]
PROMPTS_FILE = Path(__file__).with_name("prompts.json")


@cache
def prompts() -> dict[str, dict[str, Any]]:
    """The published prompts by metric (and aspect): system, user, published_judge, max_tokens, temperature, source."""
    return json.loads(PROMPTS_FILE.read_text(encoding="utf-8"))


def conversations(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """(id, name of the prompt, messages) of everything that the judge of these rows is asked.

    Raises ZooError for a metric without a published judge.
    """
    metric = get_metric(rows[0]["metric"]).name
    pairs: dict[str, list[Row]] = {}
    for row in rows:
        paired = row["annotation"].get("aspect") == "consistency"
        pairs.setdefault(row["key"].rpartition("/")[0] if paired else row["key"], []).append(row)
    for key, members in pairs.items():
        first, last = members[0], members[-1]
        note = first["annotation"]
        name = f"{metric}/{note['aspect']}" if metric == "video_chatgpt" else metric
        if name not in prompts():
            raise ZooError(f"{metric} has no published judge; judged are {', '.join(prompts())}")
        answer = note["answer"]
        if metric == "mm_vet":
            answer = answer.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
        fields = {
            "context": note.get("context", ""),
            "question": note["question"],
            "question_2": last["annotation"]["question"],
            "answer": answer,
            "prediction": first["parsed"],
            "prediction_2": last["parsed"],
        }
        published = prompts()[name]
        messages = [{"role": "system", "content": published["system"]}] if "system" in published else []
        yield key, name, [*messages, {"role": "user", "content": published["user"].format(**fields)}]


def grade(rows: Sequence[Row], judge: Judge, out: Path | None = None) -> MetricResult:
    """The figures of a judged benchmark; the note of the result names the judge and the one that was published.

    Args:
        rows: the answers to one benchmark (``zoo.evaluate``).
        judge: who grades.
        out: JSON lines of ``{id, prompt, reply, judge, version}``; replies that are there already are not asked for
            again, and the file serves as ``recorded:FILE``.

    Raises:
        ZooError: replies of another judge in ``out``, or what the judge or the metric raises.
    """
    kept = _read(out, judge.name) if out else {}
    replies, published = {}, ""
    for key, name, messages in conversations(rows):
        prompt, mark = prompts()[name], fingerprint(messages)
        published = prompt["published_judge"]
        if mark not in kept:
            kept[mark] = judge.ask(messages, max_tokens=prompt["max_tokens"], temperature=prompt["temperature"])
            if out:
                out.parent.mkdir(parents=True, exist_ok=True)
                with out.open("a", encoding="utf-8") as file:
                    line = {"id": key, "prompt": mark, "reply": kept[mark]}
                    file.write(json.dumps(line | {"judge": judge.name, "version": judge.version}) + "\n")
        replies[key] = kept[mark]
    metric = get_metric(rows[0]["metric"])
    references = {row["key"]: row["annotation"] for row in rows} if metric.needs_references else None
    result = metric(replies, references)
    return replace(
        result, notes=(*result.notes, f"judge: {judge.name}, version {judge.version} (published with {published})")
    )


def _read(out: Path, judge: str) -> dict[str, str]:
    if not out.exists():
        return {}
    entries = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    if other := next((entry["judge"] for entry in entries if entry["judge"] != judge), None):
        raise ZooError(f"{out} holds replies of {other!r}, now the judge is {judge!r}; choose another --out")
    return {entry["prompt"]: entry["reply"] for entry in entries}
