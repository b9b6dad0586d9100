"""What only Java can give: Stanford's own PTB tokeniser, METEOR and SPICE, through the jars of pycocoevalcap."""

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.errors import ZooError
from zoo.evaluation.metrics.captions.tokens import DROPPED

TOKENISER_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
METEOR_JAR = "meteor/meteor-1.5.jar"
SPICE_MODELS = "spice/lib/stanford-corenlp-3.6.0-models.jar"


def _pycocoevalcap(purpose: str, *files: str) -> Path:
    """The folder of pycocoevalcap, with the files that are needed. Raises ZooError where it, Java or a file lacks."""
    found = importlib.util.find_spec("pycocoevalcap")
    if found is None or not found.submodule_search_locations:
        raise ZooError(f"{purpose} needs the package pycocoevalcap; install it with: pip install pycocoevalcap")
    if shutil.which("java") is None:
        raise ZooError(f"{purpose} needs Java: install a Java runtime so that the command java is found")
    folder = Path(next(iter(found.submodule_search_locations)))
    for file in files:
        if not (folder / file).is_file():
            raise ZooError(f"{purpose} needs {folder / file}, which is not there; pycocoevalcap says how to get it")
    return folder


def tokenise_all(captions: Sequence[str]) -> list[str]:
    """PTB-tokenised captions in lower case without the dropped marks, joined by blanks, all in one run of the jar."""
    jar = _pycocoevalcap("the tokeniser of variant java", TOKENISER_JAR) / TOKENISER_JAR
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "captions.txt"
        text.write_bytes("\n".join(caption.replace("\n", " ") for caption in captions).encode())
        command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
        run = subprocess.run([*command, str(text)], capture_output=True, text=True, encoding="utf-8")
    if run.returncode:
        raise ZooError(f"Stanford's tokeniser failed: {run.stderr.strip().splitlines()[-1:]}; use variant ptb")
    lines = run.stdout.split("\n")[: len(captions)]
    if len(lines) < len(captions):
        raise ZooError("Stanford's tokeniser returned fewer lines than captions; does a caption hold a line separator?")
    return [" ".join(word for word in line.rstrip().split(" ") if word not in DROPPED) for line in lines]


def meteor(candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> tuple[float, list[float]]:
    """METEOR 1.5 of the corpus and of every image (Denkowski and Lavie, 2014). Raises ZooError without its tools."""
    _pycocoevalcap("METEOR", METEOR_JAR)
    from pycocoevalcap.meteor.meteor import Meteor

    return Meteor().compute_score(*_as_pycocoevalcap(candidates, references))


def spice(candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> tuple[float, list[float]]:
    """SPICE of the corpus and of every image (Anderson et al., 2016). Raises ZooError without its tools.

    The Stanford models, which pycocoevalcap would download, have to be there already.
    """
    _pycocoevalcap("SPICE", SPICE_MODELS)
    from pycocoevalcap.spice.spice import Spice

    score, items = Spice().compute_score(*_as_pycocoevalcap(candidates, references))
    # It sorts the images and gives a dictionary of parts for each.
    by_image = dict(zip(sorted(candidates), items, strict=True))
    return score, [by_image[name]["All"]["f"] for name in candidates]


def _as_pycocoevalcap(
    candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    return {name: list(captions) for name, captions in references.items()}, {
        name: [caption] for name, caption in candidates.items()
    }
