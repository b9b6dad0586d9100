"""Put the weights of a comparison under scenes-tiny into the package, as ``zoo chat METHOD`` finds them.

    make compare
    python benchmarks/weights/scenes_tiny.py llava-1.5 gpt4roi video-chatgpt --comparison runs/compare --seed 0

A folder METHOD has the resolved config, a generated card, and what was trained alone: where the language model stayed
frozen it is the packaged one. Every folder is loaded once before it counts as written.
"""

import argparse
import shutil
import sys
from pathlib import Path

import zoo
from zoo.errors import ZooError
from zoo.package import package
from zoo.paths import ASSETS
from zoo.run import load_run

SETTING = "scenes-tiny"
MAX_BYTES = 5_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="+", metavar="METHOD", help="those that have learnt something")
    parser.add_argument("--comparison", type=Path, default=Path("runs/compare"), help="folder of zoo compare --out")
    parser.add_argument("--seed", type=int, default=0, help="whose run of each method")
    parser.add_argument("--out", type=Path, default=ASSETS / SETTING / "weights")
    options = parser.parse_args()
    try:
        for method in options.methods:
            folder = ship(options.comparison / "runs" / method / f"seed-{options.seed}", options.out)
            print(f"{folder}: {sum(file.stat().st_size for file in folder.iterdir()):,} bytes")
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def ship(run: Path, out: Path) -> Path:
    """Write OUT/METHOD from a run. Raises ZooError for a run of another setting, or of more than ``MAX_BYTES``."""
    config = load_run(run)
    if config.setting != SETTING:
        raise ZooError(f"{run} was trained under {config.setting!r}, not {SETTING!r}; give runs of that setting")
    folder = out / config.method.name
    shutil.rmtree(folder, ignore_errors=True)
    package(run, folder, name=config.method.name, licence="apache-2.0")
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > MAX_BYTES:
        shutil.rmtree(folder)
        raise ZooError(f"{run} takes {size:,} bytes, the package has {MAX_BYTES:,} for a method; train less of it")
    zoo.load(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
