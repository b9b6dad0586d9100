"""Trained weights as a folder for others: resolved config, safetensors of what was trained, and a card.

``zoo.load`` reads the folder, from the disk or from the hub. The frozen bases stay where they are, known by their ids
and fingerprints.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo import hub
from zoo.card import render_card
from zoo.errors import ZooError
from zoo.evaluation.entries import iterate_entries
from zoo.paths import PACKAGED
from zoo.run import CONFIG_FILE, RunConfig, load_run

WEIGHTS_FILE = "trained.safetensors"
CARD_FILE = "README.md"
_RUN_TOTALS = "done.json"


def package(
    run: "str | Path",
    out: "str | Path",
    *,
    name: str | None = None,
    evaluation: "str | Path | None" = None,
    licence: str | None = None,
) -> Path:
    """Write the folder of a finished run's weights.

    Args:
        run: folder of the run, or its ``model/``.
        name: what the card says to load it by; default: ``out``.
        evaluation: folder of TASK.jsonl files; default: that of the comparison that the run belongs to, if any.
        licence: for the header of the card, in the hub's spelling.

    Raises:
        ZooError: no trained weights there; predictions of another method; a base that only this machine has.
    """
    run, out = Path(run), Path(out)
    model = run / "model" if (run / "model").is_dir() else run
    for file in (WEIGHTS_FILE, CONFIG_FILE):
        if not (model / file).is_file():
            raise ZooError(f"{run} holds no {file}; give the folder of a run that has ended (zoo train ... --resume)")
    config = load_run(model / CONFIG_FILE)
    predictions = _predictions(run, config, Path(evaluation) if evaluation else None)
    totals = json.loads((run / _RUN_TOTALS).read_text()) if (run / _RUN_TOTALS).is_file() else None
    card = render_card(
        config, model / WEIGHTS_FILE, name=name or str(out), totals=totals, predictions=predictions, licence=licence
    )
    out.mkdir(parents=True, exist_ok=True)
    for file in (WEIGHTS_FILE, CONFIG_FILE):
        shutil.copyfile(model / file, out / file)
    (out / CARD_FILE).write_text(card, encoding="utf-8")
    return out


def push_run(run: "str | Path", id: str, *, evaluation: "str | Path | None" = None, private: bool = False) -> str:
    """Package a run and upload it; returns the address of the commit.

    Raises:
        ZooError: as ``package`` and ``zoo.hub.push``, and where a base is a folder of this machine.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = package(run, Path(temporary) / "package", name=id, evaluation=evaluation)
        config = load_run(folder / CONFIG_FILE)
        if local := next(_local_bases(config), None):
            raise ZooError(
                f"{run}: {local} is a folder of this machine, so nobody else could load it; train on a hub id "
                "(ZOO_PATHS maps one to a folder)"
            )
        return hub.push(folder, id, private=private, message=f"{config.name}, seed {config.seed}")


def _local_bases(config: RunConfig) -> Iterator[str]:
    method = config.method
    encoders = [method.encoder, method.encoder.video if method.encoder else None]
    ids = [("encoder.id", encoder.id) for encoder in encoders if encoder is not None]
    ids += [
        ("language_model.id", method.language_model.id),
        ("language_model.tokenizer", method.language_model.tokenizer),
    ]
    for key, id in ids:
        if id and not id.startswith(PACKAGED) and (Path(id).is_absolute() or Path(id).is_dir()):
            yield f"{key} {id!r}"


def _predictions(run: Path, config: RunConfig, folder: Path | None) -> list[Mapping[str, Any]]:
    if folder is None:
        # OUT/runs/NAME/seed-N of a comparison has its answers in OUT/predictions/NAME/seed-N.
        parts = run.resolve().parts
        if len(parts) < 4 or parts[-3] != "runs":
            return []
        folder = Path(*parts[:-3], "predictions", *parts[-2:])
        if not folder.is_dir():
            return []
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise ZooError(f"{folder} holds no TASK.jsonl; give the --out of zoo evaluate")
    rows = [row for file in files for _, row in iterate_entries(file, None)]
    if other := next((row for row in rows if row.get("method") not in (config.name, config.method.name)), None):
        raise ZooError(
            f"{folder} holds answers of {other.get('method')!r}, the run is of {config.name!r}; name its own"
        )
    return rows
