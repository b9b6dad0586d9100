"""Fetch checkpoints from the hub and publish our own: pinned revisions, only the files needed, every hash checked.

Downloads are huggingface_hub's: its cache (HF_HOME), HF_HUB_OFFLINE, HF_ENDPOINT, tokens. What is there already is not
fetched again, and a connection that breaks goes on where it broke. What it does not do is compare what came over HTTP
with the hash that the hub states; that is done here.
"""

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from zoo.errors import ZooError
from zoo.registry import released_row

DEFAULT_REVISION = "main"
_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TEXT = (".json", ".txt", ".model", ".md", ".jinja", ".yaml")
# The first of these that a repository has files of is what is fetched: safetensors before pickles.
_WEIGHTS = (
    r"model(-\d+-of-\d+)?\.safetensors",
    r"[^/]+\.safetensors",
    r"pytorch_model(-\d+-of-\d+)?\.bin",
    r"[^/]+\.(bin|pt|pth)",
)
_TRAINING_STATE = re.compile(r"(optimizer|scheduler|rng_state|training_args|scaler)[^/]*\.(bin|pt|pth|safetensors)")
# The HTTP library below huggingface_hub is not the same in all versions; its errors are the base of the hub's own.
_CONNECTION_ERRORS = (OSError, HfHubHTTPError.__mro__[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Expected:
    """A file's hash: sha256 of its bytes, or git's of a blob for small files."""

    kind: str
    digest: str
    source: str


def is_hub_id(text: str) -> bool:
    """Whether it is written as ``owner/name``."""
    return bool(_ID.fullmatch(text)) and not text.startswith(".")


def wanted_files(names: Iterable[str]) -> list[str]:
    """The files of a repository that a model is loaded from: texts of any kind, and weights of one kind."""
    names = [name for name in names if not _TRAINING_STATE.fullmatch(PurePosixPath(name).name)]
    texts = [name for name in names if name.endswith(_TEXT)]
    kinds = ([name for name in names if re.fullmatch(pattern, name)] for pattern in _WEIGHTS)
    return texts + next((kind for kind in kinds if kind), [])


def pull(id: str, *, revision: str | None = None, local_dir: "str | Path | None" = None) -> Path:
    """The folder of a repository's files: in huggingface_hub's cache, or in ``local_dir``.

    Args:
        revision: branch, tag or commit; by default the one that registry.yaml pins for the id, else ``main``.

    Raises:
        ZooError: no such id or revision, no access, no connection and nothing in the cache, a file that would leave the
            folder, a file that is not what the hub or registry.yaml says it is (it is deleted).
    """
    if not is_hub_id(id):
        raise ZooError(f"{id!r} is no hub id; write owner/name")
    pinned = released_row(id)
    revision = revision or pinned.get("revision") or DEFAULT_REVISION
    with _explained(id, revision):
        listing = _listing(id, revision)
        names = None if listing is None else wanted_files(listing)
        folder = Path(
            snapshot_download(
                id,
                revision=revision,
                local_dir=local_dir,
                allow_patterns=None if names is None else [glob.escape(name) for name in names],
                local_files_only=names is None,
            )
        )
    expected = dict(listing or {})
    hashes = pinned.get("sha256", {}) if revision == pinned.get("revision") else {}
    expected |= {
        name: _Expected(kind="sha256", digest=digest, source="registry.yaml") for name, digest in hashes.items()
    }
    _verify(id, folder, {name: entry for name, entry in expected.items() if (folder / name).is_file()})
    return folder


def push(folder: Path, id: str, *, private: bool = False, message: str) -> str:
    """Upload a folder to a repository of ours, made if need be; returns the address of the commit.

    Raises:
        ZooError: no token, no right to write there, no connection.
    """
    if not is_hub_id(id):
        raise ZooError(f"{id!r} is no hub id; write owner/name")
    api = HfApi()
    with _explained(id, DEFAULT_REVISION):
        api.create_repo(id, exist_ok=True, private=private)
        return api.upload_folder(repo_id=id, folder_path=folder, commit_message=message).commit_url


def _listing(id: str, revision: str) -> dict[str, _Expected | None] | None:
    """Every file with the hash that the hub states; None where it cannot be asked, or must not be."""
    try:
        info = HfApi().model_info(id, revision=revision, files_metadata=True)
    except HfHubHTTPError:
        raise
    except _CONNECTION_ERRORS:
        return None
    return {_inside(id, file.rfilename): _stated(file) for file in info.siblings or ()}


def _stated(file: Any) -> "_Expected | None":
    if file.lfs is not None:
        return _Expected(kind="sha256", digest=file.lfs.sha256, source="the hub")
    return _Expected(kind="git", digest=file.blob_id, source="the hub") if file.blob_id else None


def _inside(id: str, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts:
        raise ZooError(f"{id} lists the file {name!r}, which would lie outside of its folder; nothing was fetched")
    return name


def _verify(id: str, folder: Path, expected: Mapping[str, "_Expected | None"]) -> None:
    for name, entry in expected.items():
        if entry is None:
            continue
        file = (folder / name).resolve()
        stamp = _stamp(file, entry)
        if stamp.exists():
            continue
        if (found := _digest(file, entry.kind)) != entry.digest:
            file.unlink()
            (folder / name).unlink(missing_ok=True)
            raise ZooError(
                f"{id}: {name} has the hash {found}, {entry.source} says {entry.digest}; "
                "the file was deleted, pull it again"
            )
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def _stamp(file: Path, entry: _Expected) -> Path:
    """The mark that a file was checked: it stands for the file as it is, so that no change goes unnoticed."""
    state = file.stat()
    seen = f"{file} {state.st_size} {state.st_mtime_ns} {entry.kind} {entry.digest}"
    return Path(constants.HF_HOME) / "zoo" / "checked" / hashlib.sha256(seen.encode()).hexdigest()


def _digest(file: Path, kind: str) -> str:
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % os.path.getsize(file))
    with file.open("rb") as handle:
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _explained(id: str, revision: str) -> Iterator[None]:
    """What the hub's client raises, in one line with the way out."""
    try:
        yield
    except GatedRepoError:
        raise ZooError(f"{id} needs its licence accepted: do that on its page, then run `hf auth login`") from None
    except RepositoryNotFoundError:
        raise ZooError(f"no repository {id} that you may read; check the id, or log in with `hf auth login`") from None
    except RevisionNotFoundError:
        raise ZooError(f"{id} has no revision {revision!r}; give a branch, a tag or a commit") from None
    except HFValidationError as error:
        raise ZooError(f"{id} is no hub id ({' '.join(str(error).split())}); write owner/name") from None
    except _CONNECTION_ERRORS as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise ZooError(f"{id}: the hub refuses; log in with `hf auth login` to an account with the right") from None
        reason, fix = " ".join(str(error).split()), "repeat the command: it goes on where it stopped"
        if constants.HF_HUB_OFFLINE:
            reason, fix = "it is not in the cache, and HF_HUB_OFFLINE is set", "unset that once"
        elif isinstance(error, LocalEntryNotFoundError):
            reason, fix = f"no answer from {constants.ENDPOINT}, and it is not in the cache", "check the connection"
        raise ZooError(f"{id} at {revision!r} cannot be fetched: {reason}; {fix}") from None
