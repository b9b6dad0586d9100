"""Caption metrics in COCO's formats, the tokeniser stated with every number."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.captions import java
from zoo.evaluation.metrics.captions.scores import MAX_N, bleu, cider, rouge_l
from zoo.evaluation.metrics.captions.tokens import tokenise
from zoo.evaluation.metrics.inputs import get, join, keyed, mean, records
from zoo.evaluation.metrics.metric import Metric, Outcome

CAPTION_KEYS = ("caption", "captions", "prediction", "text", "answer")
ID_KEYS = ("image_id", "id", "cocoid", "imgid", "filename", "question_id")
KARPATHY_IDS = ("cocoid", "imgid", "filename")
TOKENISER_NOTES = {
    "ptb": "tokeniser: PTB rules in Python (ptb), marks dropped as pycocoevalcap does",
    "java": "tokeniser: Stanford PTBTokenizer 3.4.1 (Java), marks dropped as pycocoevalcap does",
    "split": "tokeniser: none, captions were split at blanks as they stand",
}

Tokeniser = Callable[[Sequence[str]], list[str]]


def _ptb(captions: Sequence[str]) -> list[str]:
    return [" ".join(tokenise(caption)) for caption in captions]


def _split(captions: Sequence[str]) -> list[str]:
    return [" ".join(caption.split()) for caption in captions]


TOKENISERS: dict[str, Tokeniser] = {"ptb": _ptb, "java": java.tokenise_all, "split": _split}


def read_captions(predictions: Any, references: Any) -> tuple[dict[str, str], dict[str, list[str]]]:
    """One candidate and at least one reference caption an image, in the order of the references.

    Raises ZooError for several candidates of an image, one without references or the other way round, and text missing.
    """
    said = keyed(predictions, "predictions", id_keys=ID_KEYS, value_keys=CAPTION_KEYS, under=("annotations",))
    known = _reference_captions(references, said)
    candidates, captions = {}, {}
    for name, candidate, texts in join(said, known):
        if isinstance(candidate, list) and len(candidate) == 1:
            candidate = candidate[0]
        if not isinstance(candidate, str):
            raise ZooError(f"predictions: the caption of {name!r} is {candidate!r:.40}; it must be one text")
        candidates[name], captions[name] = candidate, texts
    return candidates, captions


def _reference_captions(references: Any, said: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if isinstance(references, Mapping) and "annotations" not in references and "images" in references:
        return _karpathy(references, said)
    if isinstance(references, Mapping) and "annotations" not in references:
        for name, texts in references.items():
            found[str(name)] = [texts] if isinstance(texts, str) else list(texts)
    else:
        for number, entry in enumerate(records(references, "references", under=("annotations",))):
            where = f"references: entry {number}"
            text = get(entry, CAPTION_KEYS, where)
            # An annotation has an id of its own; what is scored is the image.
            found.setdefault(str(get(entry, ID_KEYS, where)), []).extend([text] if isinstance(text, str) else text)
    for name, texts in found.items():
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ZooError(f"references: {name!r} needs at least one caption, each of them text")
    if not found:
        raise ZooError("references: empty; there is nothing to score")
    return found


def _karpathy(references: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, list[str]]:
    """Karpathy's split file; only the splits that any prediction is of, since it holds the training images too."""
    entries = records(references["images"], "references")
    names = [str(get(entry, KARPATHY_IDS, f"references: image {number}")) for number, entry in enumerate(entries)]
    splits = {entry.get("split") for name, entry in zip(names, entries) if name in said}
    return {
        name: [
            str(get(sentence, "raw", f"references: {name!r}"))
            for sentence in get(entry, "sentences", f"references: {name!r}")
        ]
        for name, entry in zip(names, entries)
        if not splits or entry.get("split") in splits
    }


def score_captions(predictions: Any, references: Any, *, tokeniser: str, wanted: Sequence[str]) -> Outcome:
    """The wanted scores (bleu, rouge_l, cider, meteor, spice); ``items`` are those of the last one that has any."""
    candidates, captions = read_captions(predictions, references)
    flat = [*candidates.values(), *(text for texts in captions.values() for text in texts)]
    done = iter(TOKENISERS[tokeniser](flat))
    said = {name: next(done) for name in candidates}
    known = {name: [next(done) for _ in texts] for name, texts in captions.items()}
    values: dict[str, float] = {}
    items: dict[str, float] = {}
    notes = [TOKENISER_NOTES[tokeniser]]
    for score in wanted:
        if score == "bleu":
            scores = bleu(list(said.values()), list(known.values()))
            values |= {f"Bleu_{n}": scores[n - 1] for n in range(MAX_N, 0, -1)}
        elif score == "rouge_l":
            items = {name: rouge_l(said[name], known[name]) for name in said}
            values["ROUGE_L"] = mean(list(items.values()))
        elif score == "cider":
            items = dict(zip(said, cider(list(said.values()), list(known.values())), strict=True))
            values["CIDEr"] = mean(list(items.values()))
            notes.append("CIDEr-D, document frequencies from these references; papers print it times 100")
            if len(said) == 1:
                notes.append("with one image every CIDEr is 0")
        else:
            total, parts = getattr(java, score)(said, known)
            values[score.upper()], items = float(total), dict(zip(said, map(float, parts), strict=True))
    return Outcome(values=values, items=items, notes=tuple(notes), num_items=len(said))


def _caption_metrics(
    name: str, summary: str, source: str, wanted: Sequence[str], variants: Sequence[str]
) -> list[Metric]:
    return [
        Metric(
            name=name,
            variant=variant,
            summary=f"{summary}; {TOKENISER_NOTES[variant]}",
            source=source,
            unit="as pycocoevalcap",
            predictions="COCO results [{image_id, caption}], one an image; {id: caption}",
            references="COCO or NoCaps {annotations: [{image_id, caption}]}, Karpathy's {images: [{cocoid, sentences, "
            "split}]}, {id: [captions]}",
            compute=partial(score_captions, tokeniser=variant, wanted=wanted),
        )
        for variant in variants
    ]


_ALL = ("ptb", "java", "split")

SCORERS = (
    *_caption_metrics(
        "cider", "CIDEr-D", "Vedantam et al. (2015); pycocoevalcap, cider/cider_scorer.py", ("cider",), _ALL
    ),
    *_caption_metrics(
        "bleu", "BLEU-1 to 4", "Papineni et al. (2002); pycocoevalcap, bleu/bleu_scorer.py", ("bleu",), _ALL
    ),
    *_caption_metrics("rouge_l", "ROUGE-L", "Lin (2004); pycocoevalcap, rouge/rouge.py", ("rouge_l",), _ALL),
    *_caption_metrics(
        "captions", "CIDEr-D, BLEU and ROUGE-L", "pycocoevalcap, eval.py", ("cider", "bleu", "rouge_l"), _ALL
    ),
    *_caption_metrics(
        "meteor", "METEOR 1.5", "Denkowski and Lavie (2014); pycocoevalcap, meteor/meteor.py", ("meteor",), ("java",)
    ),
    *_caption_metrics("spice", "SPICE", "Anderson et al. (2016); pycocoevalcap, spice/spice.py", ("spice",), ("java",)),
)
