"""The tensors of weight files, by name, read from the disk one by one and let go again."""

import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from zoo.errors import ZooError

# What is read through one opening of a file: its pages count as the process's memory until it is closed.
WINDOW_BYTES = 64 * 2**20
# Under which names LAVIS and OpenFlamingo save the weights.
_STATES = ("model", "model_state_dict")
_DAMAGED = (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where a tensor lies, and what it is there."""

    file: Path
    key: str
    shape: torch.Size
    num_bytes: int


class Weights(Mapping[str, Tensor]):
    """The tensors of one or several files. Looking one up reads it; the names and shapes are known from the start."""

    def __init__(self, places: Mapping[str, _Place]) -> None:
        self._places = dict(places)

    @classmethod
    def of_file(cls, file: Path) -> "Weights":
        """Raises ZooError for a damaged file, for a pickle of anything but tensors by name, and for one of code."""
        return cls(
            {
                key: _Place(file=file, key=key, shape=tensor.shape, num_bytes=tensor.nbytes)
                for key, tensor in _read(file).items()
            }
        )

    def __or__(self, other: "Weights") -> "Weights":
        return Weights(self._places | other._places)

    def renamed(self, names: Mapping[str, str]) -> "Weights":
        """Old name -> new name; what ``names`` leaves out is left out."""
        return Weights({new: self._places[old] for old, new in names.items()})

    def __getitem__(self, key: str) -> Tensor:
        place = self._places[key]
        return _read(place.file, [place.key])[place.key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, key: str) -> torch.Size:
        return self._places[key].shape

    def may_stay(self, key: str) -> bool:
        """Whether a tensor may stay in its mapped file: safetensors are replaced when written, pickles written into."""
        return self._places[key].file.suffix == ".safetensors"

    def stream(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor on the CPU) of all, file by file; whoever keeps one keeps the pages of its file with it."""
        for file, window in self._windows():
            tensors = _read(file, [self._places[name].key for name in window])
            for name in window:
                yield name, tensors.pop(self._places[name].key)

    def _windows(self) -> Iterator[tuple[Path, list[str]]]:
        by_file: dict[Path, list[str]] = {}
        for name, place in self._places.items():
            by_file.setdefault(place.file, []).append(name)
        for file, names in by_file.items():
            window, size = [], 0
            for name in names:
                if window and size + self._places[name].num_bytes > WINDOW_BYTES:
                    yield file, window
                    window, size = [], 0
                window.append(name)
                size += self._places[name].num_bytes
            yield file, window


def _read(file: Path, keys: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Tensors of a file (all of them without ``keys``), mapped into memory: nothing is read until they are used."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt", device="cpu") as opened:
                return {key: opened.get_tensor(key) for key in (opened.keys() if keys is None else keys)}
        # Files of before 2020 are no archives and cannot be mapped.
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except _DAMAGED as error:
        raise _refusal(file, error) from None
    tensors = _state(tensors)
    _check_by_name(file, tensors)
    return tensors if keys is None else {key: tensors[key] for key in keys}


def _state(saved: Any) -> Any:
    """The weights among what a training run saved: its optimizer and its config may lie beside them."""
    if isinstance(saved, dict):
        for name in _STATES:
            if isinstance(saved.get(name), dict):
                return saved[name]
    return saved


def _refusal(file: Path, error: Exception) -> ZooError:
    if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL (\S+)", str(error))):
        return ZooError(
            f"{file} is refused: its pickle calls {found[1].rstrip('.,')}, and nothing but tensors is taken from a "
            "pickle; get the same weights as .safetensors"
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ZooError(f"{file} is damaged or no file of weights ({reason}); download it again")


def _check_by_name(file: Path, tensors: Any) -> None:
    if not isinstance(tensors, dict):
        raise ZooError(f"{file} holds a {type(tensors).__name__}, not weights by name; export a state dict")
    for key, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ZooError(f"{file}: {key!r} is a {type(value).__name__}, not a tensor; export a state dict")
