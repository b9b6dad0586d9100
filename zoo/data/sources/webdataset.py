"""webdataset tar shards: adjacent files with one key are one sample; streamed, and split over ranks and workers."""

import glob
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from zoo.data.sample import Medium, Message, Sample
from zoo.data.sources.convert import to_sample
from zoo.data.sources.documents import DocumentRules, LeftOut, NoUsableImage, from_document, is_document
from zoo.data.sources.records import Origin, RecordError, assemble
from zoo.errors import ZooError, nearest

_IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
_VIDEO_EXTENSIONS = ("mp4", "webm", "avi", "mov", "mkv")


def expand_shards(pattern: str) -> list[str]:
    """Shard paths of a path, a brace pattern or a glob, sorted within a glob; ZooError where one is missing."""
    try:
        patterns = expand_urls(pattern)
    except ValueError as error:
        raise ZooError(f"shards {pattern!r}: {error}; write NAME-{{000000..000099}}.tar") from error
    shards = []
    for name in patterns:
        found = sorted(glob.glob(name)) if glob.has_magic(name) and not os.path.exists(name) else [name]
        if not found or not os.path.isfile(found[0]):
            folder = os.path.dirname(name) or "."
            known = [other for other in os.listdir(folder) if other.endswith(".tar")] if os.path.isdir(folder) else []
            hint = nearest(os.path.basename(name), known) if known else f" There is no .tar file in {folder!r}."
            raise ZooError(f"shard {name!r}: no such file.{hint}")
        shards += found
    return shards


class TarSource(IterableDataset):
    """Samples of tar shards in their order, each read by exactly one worker of one rank.

    A sample's ``.json`` is a LLaVA or chat record, ``{caption}``, or an interleaved document, read by the rules
    ``documents`` (those without a usable image are left out; ``left_out`` and a warning count them). ``.txt`` is a
    caption where there is no record. Images (``.jpg``, ``.png``, ``.0.jpg``, ...) take the place of the record's paths:
    matched by name where the names agree, else in the order of their numbers. Other fields are left alone. A caption
    becomes the answer to a bare image.

    With at least as many shards as workers over all ranks, whole shards are dealt out; with fewer, every worker walks
    all headers and reads its share of the samples. ``rank`` and ``num_ranks`` default to the job's (torch.distributed,
    else the environment that torchrun sets) at the time of construction. Ranks may get unequal numbers of samples.

    Raises:
        ZooError: while iterating, for a damaged shard or sample; it names the shard and the key.
    """

    def __init__(
        self,
        shards: Sequence[str],
        *,
        media_root: str | None = None,
        rank: int | None = None,
        num_ranks: int | None = None,
        documents: DocumentRules | None = None,
    ) -> None:
        if (rank is None) != (num_ranks is None):
            raise ZooError(f"rank is {rank} and num_ranks is {num_ranks}; give both or neither")
        if rank is None or num_ranks is None:
            rank, num_ranks = _rank_of_job()
        if not 0 <= rank < num_ranks:
            raise ZooError(f"rank {rank} of {num_ranks} ranks; count ranks from 0")
        self.shards = tuple(shards)
        self.media_root = media_root
        self.rank, self.num_ranks = rank, num_ranks
        self.documents = documents or DocumentRules()
        self.left_out = LeftOut()

    def __iter__(self) -> Iterator[Sample]:
        return self.samples()

    def samples(self, on_error: Callable[[ZooError], None] | None = None) -> Iterator[Sample]:
        """Iterate; with ``on_error``, a damaged sample or rest of a damaged shard is reported there and left out."""
        worker = get_worker_info()
        worker_id, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        part, num_parts = self.rank * num_workers + worker_id, self.num_ranks * num_workers
        deal_shards = len(self.shards) >= num_parts
        num_seen = num_documents = 0
        self.left_out = LeftOut()
        for number, shard in enumerate(self.shards):
            if deal_shards and number % num_parts != part:
                continue
            try:
                for key, load in _groups(shard):
                    mine = deal_shards or num_seen % num_parts == part
                    num_seen += 1
                    if not mine:
                        continue
                    try:
                        sample = self._sample(shard, key, load())
                        num_documents += 1
                        self.left_out.add(sample)
                        yield sample
                    except NoUsableImage as error:
                        num_documents += 1
                        self.left_out.add(error)
                    except RecordError as error:
                        if on_error is None:
                            raise
                        on_error(error)
            except ZooError as error:
                if on_error is None or isinstance(error, RecordError):
                    raise
                on_error(error)
        self.left_out.warn(f"{self.shards[0]} .. {self.shards[-1]}", num_documents)

    def _sample(self, shard: str, key: str, fields: dict[str, bytes]) -> Sample:
        where, base = f"{shard}: sample {key!r}", os.path.basename(key)
        images = []
        for field in sorted(fields, key=_field_order):
            extension = field.rpartition(".")[2]
            if extension in _VIDEO_EXTENSIONS:
                text = f"{where}: videos in a shard ({field}) are not read; store frames as .0.jpg, .1.jpg, ..."
                raise RecordError(text, "malformed", key)
            if extension in _IMAGE_EXTENSIONS:
                name = f"{shard}/{key}.{field}"
                images.append(Medium(kind="image", source=fields[field], name=name))
        media_root = os.path.dirname(shard) if self.media_root is None else self.media_root
        origin = Origin(where=where, default_id=key, media_root=media_root, carried=tuple(images))
        record = None
        if "json" in fields:
            try:
                record = json.loads(fields["json"].decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise RecordError(f"{where}: malformed JSON in {base}.json: {error}", "malformed", key) from error
        if is_document(record):
            return from_document(record, origin, self.documents)
        if isinstance(record, dict) and not {"conversations", "messages"} & record.keys():
            caption = record.get("caption", _text(fields, where, key))
            info = {name: value for name, value in record.items() if name not in ("caption", "id")}
        elif record is None and "txt" in fields:
            caption, info, record = _text(fields, where, key), {}, {}
        else:
            if record is None:
                known = ", ".join(sorted(fields)) or "none"
                raise RecordError(f"{where}: neither .json nor .txt among its files ({known})", "malformed", key)
            return to_sample(record, origin)
        sample_id = origin.sample_id(record)
        if not isinstance(caption, str):
            raise origin.error("neither a 'caption' in .json nor a .txt file holds its text", sample_id=sample_id)
        if not images:
            raise origin.error(
                "a caption without an image; the files of a sample must be adjacent in the shard (tar --sort=name)",
                sample_id=sample_id,
            )
        messages = [
            Message(role="user", content="\n".join(["<image>"] * len(images))),
            Message(role="assistant", content=caption.strip()),
        ]
        return assemble(messages, images, [], [], origin=origin, sample_id=sample_id, info=info)


def _rank_of_job() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def _field_order(field: str) -> list[tuple[int, int, str]]:
    """Numbers in a field's name count as numbers: 2.jpg before 10.jpg."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", field) if part]


def _text(fields: dict[str, bytes], where: str, key: str) -> str | None:
    try:
        return fields["txt"].decode("utf-8") if "txt" in fields else None
    except UnicodeDecodeError as error:
        raise RecordError(f"{where}: its .txt is not UTF-8 at byte {error.start}", "malformed", key) from error


def _groups(shard: str) -> Iterator[tuple[str, Callable[[], dict[str, bytes]]]]:
    """Keys of a shard in order, each with a function that reads its files; reading only happens when it is called."""
    last_key = ""
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members: dict[str, tarfile.TarInfo] = {}
            for member in tar:
                key, field = base_plus_ext(member.name) if member.isreg() else (None, None)
                if key is None:
                    continue
                if key != last_key and members:
                    yield last_key, partial(_read, tar, members, f"{shard}: sample {last_key!r}")
                    members = {}
                last_key = key
                if field.lower() in members:
                    raise ZooError(f"{shard}: sample {key!r} has two files .{field.lower()}; use one key a sample")
                members[field.lower()] = member
            # A shard cut off between two files looks complete to tarfile; only the closing zero block is missing.
            file.seek(tar.offset)
            has_end = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
            if members:
                yield last_key, partial(_read, tar, members, f"{shard}: sample {last_key!r}")
            if not has_end:
                raise tarfile.ReadError("no end-of-archive mark")
    except (tarfile.TarError, EOFError, OSError) as error:
        after = f"damaged in or after sample {last_key!r}" if last_key else "cannot be read"
        raise ZooError(f"{shard}: {after} ({error}); is the shard cut off? Copy or write it again") from error


def _read(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], where: str) -> dict[str, bytes]:
    fields = {}
    for field, member in members.items():
        try:
            stream = tar.extractfile(member)
            assert stream is not None, "only regular files are kept"
            fields[field] = stream.read()
        except (tarfile.TarError, OSError) as error:
            raise ZooError(f"{where}: {field} cannot be read ({error}); copy or write the shard again") from error
    return fields
