"""Time and peak memory of loading a sharded checkpoint: zoo.load beside transformers' from_pretrained, in one run.

    python benchmarks/speed/load.py --width 2048 --layers 8 --dtype float32 --out load.jsonl

A LLaVA checkpoint with random weights is written once, in shards. Every measurement is a process of its own, the two
loaders by turns, the files in the page cache. Both leave weights on a CPU in the mapped files; so after the call every
page of every weight is read once, and this is counted as loading. Peak memory is what the process (resident, mapped
pages of files included) and the device grow by. Imports are not timed. With --file-dtype the weights have to be
converted, which nothing mapped can do.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PAGE_BYTES = 4096
LOADERS = ("zoo", "transformers")


def write_checkpoint(folder: Path, *, width: int, layers: int, dtype: str, shard: str) -> int:
    """A LLaVA with a CLIP tower of a quarter of the width; returns the number of its weights."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    text = LlamaConfig(
        vocab_size=32064,
        hidden_size=width,
        intermediate_size=int(2.6875 * width),
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
    )
    tower = CLIPVisionConfig(
        hidden_size=width // 4,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 256,
        image_size=336,
        patch_size=14,
    )
    config = LlavaConfig(text_config=text, vision_config=tower, image_token_id=32000)
    model = LlavaForConditionalGeneration._from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size=shard)
    return sum(parameter.numel() for parameter in model.parameters())


def measure(loader: str, folder: str, dtype: str, device: str) -> dict[str, Any]:
    """One load in this process."""
    import torch

    if loader == "zoo":
        import zoo
        import zoo.weights
        from zoo.registry import get_method

        get_method("llava-1.5")

        def load() -> Any:
            return zoo.load(folder, dtype=getattr(torch, dtype), device=device)
    else:
        from transformers import LlavaForConditionalGeneration

        def load() -> Any:
            return LlavaForConditionalGeneration.from_pretrained(
                folder, dtype=getattr(torch, dtype), device_map=None if device == "cpu" else device
            )

    if device != "cpu":
        torch.zeros(1, device=device)  # the context of the device is no memory of the model
        torch.accelerator.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before, began = _high_water(), time.perf_counter()
    model = load()
    for parameter in model.parameters():
        parameter.data.view(-1)[:: PAGE_BYTES // parameter.element_size()].sum()
    if device != "cpu":
        torch.accelerator.synchronize()
    seconds = time.perf_counter() - began
    grown = _high_water() - before
    on_device = torch.accelerator.max_memory_allocated() if device != "cpu" else 0
    assert not any(parameter.is_meta for parameter in model.parameters())
    return {"seconds": seconds, "host_bytes": grown, "device_bytes": on_device}


def _high_water() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=2048, help="hidden size of the language model, a multiple of 256")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--dtype", default="float32", help="of the loaded model")
    parser.add_argument("--file-dtype", help="of the files; default: as the model")
    parser.add_argument("--shard", default="400MB", help="largest shard")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON lines of every measurement")
    parser.add_argument("--measure", nargs=2, metavar=("LOADER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure, options.dtype, options.device)))
        return
    with tempfile.TemporaryDirectory() as folder:
        stored = options.file_dtype or options.dtype
        count = write_checkpoint(
            Path(folder), width=options.width, layers=options.layers, dtype=stored, shard=options.shard
        )
        size = count * _itemsize(options.dtype)
        facts = {
            "model_bytes": size,
            "dtype": options.dtype,
            "file_dtype": stored,
            "device": _device(options.device),
            "commit": _commit(),
        }
        facts |= {"cpu": platform.processor() or platform.machine(), "cores": len(os.sched_getaffinity(0))}
        rows = []
        for repeat in range(-1, options.repeats):  # the first round fills the page cache and does not count
            first = repeat % len(LOADERS)
            for loader in LOADERS[first:] + LOADERS[:first]:
                command = [sys.executable, __file__, "--measure", loader, folder]
                command += ["--dtype", options.dtype, "--device", options.device]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                if repeat >= 0:
                    rows.append({"loader": loader, "repeat": repeat, **json.loads(done.stdout), **facts})
                    print(json.dumps(rows[-1]), flush=True)
    if options.out:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(render(rows))


def render(rows: list[dict[str, Any]]) -> str:
    """Medians, memory as a multiple of the model's size, and ratios."""
    facts = rows[0]
    memory = "device_bytes" if facts["device_bytes"] else "host_bytes"

    def median(loader: str, key: str) -> float:
        return statistics.median(row[key] for row in rows if row["loader"] == loader)

    types = f"{facts['dtype']} from {facts['file_dtype']}"
    lines = [
        f"{facts['model_bytes'] / 1e9:.2f} GB of {types} to {facts['device']}, {facts['cores']} cores, commit "
        f"{facts['commit']}, median of {len(rows) // len(LOADERS)}",
        "",
        "| loader | seconds | GB/s | peak host memory / model | peak device memory / model |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for loader in LOADERS:
        seconds, size = median(loader, "seconds"), facts["model_bytes"]
        on_device = f"{median(loader, 'device_bytes') / size:.3f}" if facts["device_bytes"] else ""
        lines.append(
            f"| {loader} | {seconds:.2f} | {size / seconds / 1e9:.2f} | {median(loader, 'host_bytes') / size:.3f} | "
            f"{on_device} |"
        )
    lines.append("")
    for loader in LOADERS[:-1]:
        ratios = [median(loader, key) / median("transformers", key) for key in ("seconds", memory)]
        lines.append(f"{loader} / transformers: time {ratios[0]:.2f}, peak memory {ratios[1]:.2f}")
    return "\n".join(lines)


def _itemsize(dtype: str) -> int:
    import torch

    return getattr(torch, dtype).itemsize


def _device(device: str) -> str:
    import torch

    return "CPU" if device == "cpu" else torch.cuda.get_device_name() if device.startswith("cuda") else device


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
