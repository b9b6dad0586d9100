"""Hateful Memes: the area under the ROC curve of the probability of yes."""

from collections.abc import Iterator

from zoo.errors import ZooError
from zoo.evaluation.benchmarks.benchmark import Benchmark, Prompt, Question
from zoo.evaluation.benchmarks.folder import Folder
from zoo.evaluation.benchmarks.prompts import FLAMINGO, LAVIS
from zoo.evaluation.benchmarks.styles import FLAMINGO_CLASS
from zoo.evaluation.decoding import Decoding
from zoo.evaluation.entries import get_value, iterate_entries

RANKED = Decoding(mode="likelihood", normalisation="mean")
WORDS = ("no", "yes")


def read_memes(folder: Folder) -> Iterator[Question]:
    """JSON lines; ``img`` is below the folder."""
    for where, entry in iterate_entries(folder.path("annotations"), None):
        label = get_value(entry, "label", int, where)
        if label not in (0, 1):
            raise ZooError(f"{where}: label {label!r} is neither 0 nor 1; use a split with labels")
        name = get_value(entry, "img", str, where)
        yield Question(
            key=str(get_value(entry, "id", (int, str), where)),
            fields={"text": get_value(entry, "text", str, where)},
            media=(folder.image(name, where),),
            group=name,
            annotation=label,
            answers=(WORDS[label],),
            candidates=WORDS,
        )


BENCHMARKS = (
    Benchmark(
        name="hateful_memes",
        title="Hateful Memes",
        group="classification",
        splits={
            split: {"annotations": f"{split}.jsonl", "images": "./"}
            for split in ("dev", "test_seen", "dev_seen", "test_unseen", "dev_unseen", "train")
        },
        read=read_memes,
        prompts={
            "llava": Prompt(
                text='This is an image with: "{text}" written on it. Is it hateful? Answer:',
                decoding=RANKED,
                source=LAVIS,
            ),
            "openflamingo": Prompt(
                text="is an image with: '{text}' written on it. Is it hateful?",
                decoding=RANKED,
                form=FLAMINGO_CLASS,
                source=FLAMINGO,
            ),
        },
        metric="roc_auc:official",
        train="train",
        source="Kiela et al. (2020)",
        notes=("the score is that of yes minus that of no, each the mean over its tokens and the end of turn",),
    ),
)
