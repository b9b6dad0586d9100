"""Random access to the records of a JSON array or of JSON lines without holding the file in memory.

One pass finds the byte range of every record; the ranges (16 bytes a record) are kept in a memory-mapped file that all
workers of a machine share. A record is read and decoded when it is asked for.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo.data.sources.records import RecordError
from zoo.errors import ZooError

CHUNK_BYTES = 1 << 22
# Below this size the scan is quicker than a look at the cache is worth.
CACHE_FROM_BYTES = 1 << 24
_LAYOUT = 1  # of the cached file; raise it when the scan or the layout changes

_QUOTE, _BACKSLASH, _COMMA = ord('"'), ord("\\"), ord(",")
_IS_STRUCTURE = np.zeros(256, dtype=bool)
_IS_STRUCTURE[list(b'"[]{},')] = True
_DEPTH_CHANGE = np.zeros(256, dtype=np.int64)
_DEPTH_CHANGE[list(b"[{")] = 1
_DEPTH_CHANGE[list(b"]}")] = -1
_UTF8_MARK = b"\xef\xbb\xbf"
_WHITESPACE = b" \t\r\n"


def first_byte(file: BinaryIO) -> tuple[bytes, int]:
    """The first byte that is not white space (none in an empty file) and its position, past a UTF-8 byte-order mark."""
    file.seek(0)
    position = len(_UTF8_MARK) if file.read(len(_UTF8_MARK)) == _UTF8_MARK else 0
    return _first_byte_from(file, position)


def _first_byte_from(file: BinaryIO, position: int) -> tuple[bytes, int]:
    for start, chunk in _chunks(file, position):
        rest = chunk.lstrip(_WHITESPACE)
        if rest:
            return rest[:1], start + len(chunk) - len(rest)
        position = start + len(chunk)
    return b"", position


def scan(path: str) -> np.ndarray:
    """Byte ranges (records, 2) int64, begin and end, of the elements of a JSON array or else of the lines of a file.

    Raises:
        ZooError: the file is empty, or the array does not end (a truncated file) or is followed by more data.
    """
    with open(path, "rb") as file:
        byte, begin = first_byte(file)
        if not byte:
            raise ZooError(f"{path}: the file is empty; write an array of records or one record a line")
        return _scan_array(file, begin, path) if byte == b"[" else _scan_lines(file, begin)


def _chunks(file: BinaryIO, begin: int) -> Iterator[tuple[int, bytes]]:
    file.seek(begin)
    while chunk := file.read(CHUNK_BYTES):
        yield begin, chunk
        begin += len(chunk)


def _scan_lines(file: BinaryIO, begin: int) -> np.ndarray:
    found, size = [np.array([begin - 1])], begin
    for start, chunk in _chunks(file, begin):
        found.append(np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")) + start)
        size = start + len(chunk)
    found.append(np.array([size]))
    breaks = np.concatenate(found)
    ranges = np.stack([breaks[:-1] + 1, breaks[1:]], axis=1)
    keep = ranges[:, 1] > ranges[:, 0]
    # A record takes more than a few bytes, so only short lines can be blank ones.
    for index in np.flatnonzero(keep & (ranges[:, 1] - ranges[:, 0] <= 8)):
        file.seek(ranges[index, 0])
        keep[index] = bool(file.read(ranges[index, 1] - ranges[index, 0]).strip())
    return ranges[keep]


def _scan_array(file: BinaryIO, begin: int, path: str) -> np.ndarray:
    separators = []  # the opening bracket, the commas between elements, the closing bracket
    depth, inside_string, num_backslashes, closed = 0, False, 0, False
    for start, chunk in _chunks(file, begin):
        if closed:
            _refuse_trailing(chunk, start, path)
            continue
        data = np.frombuffer(chunk, dtype=np.uint8)
        marks = np.flatnonzero(_IS_STRUCTURE[data])
        symbols = data[marks]
        real = np.ones(len(marks), dtype=bool)
        quotes = np.flatnonzero(symbols == _QUOTE)
        real[quotes] = _count_backslashes(data, marks[quotes], num_backslashes) % 2 == 0
        marks, symbols = marks[real], symbols[real]
        is_quote = symbols == _QUOTE
        num_quotes = np.cumsum(is_quote) + int(inside_string)
        outside = ~is_quote & (num_quotes % 2 == 0)
        positions, symbols = marks[outside], symbols[outside]
        changes = _DEPTH_CHANGE[symbols]
        depths = depth + np.cumsum(changes)
        ends = np.flatnonzero(depths == 0)
        if len(ends):
            closed = True
            last = int(ends[0])
            _refuse_trailing(chunk[positions[last] + 1 :], start + int(positions[last]) + 1, path)
            positions, symbols, changes, depths = (array[: last + 1] for array in (positions, symbols, changes, depths))
        is_separator = ((symbols == _COMMA) & (depths == 1)) | ((changes > 0) & (depths == 1)) | (depths == 0)
        separators.append(positions[is_separator] + start)
        depth = int(depths[-1]) if len(depths) else depth
        inside_string = bool(num_quotes[-1] % 2) if len(num_quotes) else inside_string
        stripped = len(chunk.rstrip(b"\\"))
        num_backslashes = len(chunk) - stripped + (0 if stripped else num_backslashes)
    places = np.concatenate(separators)
    if not closed:
        raise _unclosed(file, places, path)
    ranges = np.stack([places[:-1] + 1, places[1:]], axis=1)
    is_empty = len(ranges) == 1 and _first_byte_from(file, int(ranges[0, 0]))[1] == ranges[0, 1]
    return ranges[:0] if is_empty else ranges


def _count_backslashes(data: np.ndarray, places: np.ndarray, num_before: int) -> np.ndarray:
    """How many backslashes stand right before each place; ``num_before`` of them end the previous chunk."""
    counts = np.zeros(len(places), dtype=np.int64)
    active, back = np.arange(len(places)), places - 1
    while len(active):
        at_start = back < 0
        counts[active[at_start]] += num_before
        goes_on = ~at_start & (data[back] == _BACKSLASH)
        active, back = active[goes_on], back[goes_on] - 1
        counts[active] += 1
    return counts


def _refuse_trailing(rest: bytes, position: int, path: str) -> None:
    stripped = rest.lstrip(_WHITESPACE)
    if stripped:
        position += len(rest) - len(stripped)
        raise ZooError(f"{path}: more data after the array's end at byte {position}; keep a single array in the file")


def _unclosed(file: BinaryIO, places: np.ndarray, path: str) -> ZooError:
    """A missing quote shifts every later range, so the first record that does not decode is the one to name."""
    size = file.seek(0, os.SEEK_END)
    ends = np.append(places[1:], size)
    for index, (begin, end) in enumerate(zip(places + 1, ends)):
        file.seek(begin)
        try:
            decode(file.read(min(end - begin, CHUNK_BYTES)), path, index, int(begin))
        except RecordError as error:
            return RecordError(f"{error}; the array is never closed: is the file cut off at byte {size}?")
    return ZooError(f"{path}: the array of {len(ends)} samples is never closed; is the file cut off at byte {size}?")


def decode(text: bytes, path: str, index: int, begin: int) -> Any:
    """The JSON value of a record; RecordError with file, sample index and byte where it is none."""
    where = f"{path}: sample {index}"
    default_id = f"{os.path.basename(path)}:{index}"
    try:
        return json.loads(text.decode("utf-8"))
    except json.JSONDecodeError as error:
        position = begin + len(error.doc[: error.pos].encode("utf-8"))
        raise RecordError(f"{where}: malformed JSON at byte {position}: {error.msg}", sample_id=default_id) from error
    except UnicodeDecodeError as error:
        position = begin + error.start
        raise RecordError(f"{where}: not UTF-8 at byte {position}; save as UTF-8", sample_id=default_id) from error
    except RecursionError as error:
        raise RecordError(f"{where}: JSON nested too deeply at byte {begin}", sample_id=default_id) from error


def cache_file(path: str) -> Path:
    """Where the ranges of ``path`` are kept: under ``$XDG_CACHE_HOME`` (``~/.cache``), named by its full path."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:16]
    return root / "visual-instruction-zoo" / "json-index" / f"{os.path.basename(path)}-{digest}-{_LAYOUT}.npy"


def load_or_scan(path: str) -> np.ndarray:
    """Ranges (records, 2) of ``path``, memory-mapped where possible; scanned again when its size or time changed."""
    stamp = _stamp(os.stat(path))
    if stamp[0] < CACHE_FROM_BYTES:
        return scan(path)
    cache = cache_file(path)
    cached = _load(cache, stamp)
    if cached is not None:
        return cached
    ranges = scan(path)
    temporary = None
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache.parent, suffix=".tmp", delete=False) as file:
            temporary = file.name
            np.save(file, np.concatenate([np.array([stamp], dtype=np.int64), ranges]))
        os.replace(temporary, cache)
    except OSError:
        # No room or no right to write: the ranges stay in this process's memory instead.
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        return ranges
    cached = _load(cache, stamp)
    return ranges if cached is None else cached


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _load(cache: Path, stamp: tuple[int, int]) -> np.ndarray | None:
    try:
        table = np.load(cache, mmap_mode="r")
    except (OSError, ValueError):
        # Missing, or damaged by something else than us (we replace it atomically): a scan makes a new one.
        return None
    if table.dtype != np.int64 or table.ndim != 2 or table.shape[1] != 2 or len(table) < 1:
        return None
    return table[1:] if tuple(table[0]) == stamp else None


class JsonRecords:
    """The records of a JSON array or JSON-lines file, decoded one by one on demand.

    Safe to share with threads and forked workers (positioned reads, no common file position) and to pickle (the file is
    opened again, cached ranges are mapped again instead of being copied).
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        try:
            self._file = open(self.path, "rb", buffering=0)
        except OSError as error:
            raise ZooError(f"{self.path}: cannot be read ({error.strerror}); check path and permissions") from error
        self._ranges = load_or_scan(self.path)
        self._stamp = _stamp(os.fstat(self._file.fileno()))

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, index: int) -> Any:
        begin, end = (int(place) for place in self._ranges[index])
        if _stamp(os.fstat(self._file.fileno())) != self._stamp:
            raise ZooError(f"{self.path}: the file changed while it was in use; start again")
        return decode(os.pread(self._file.fileno(), end - begin, begin), self.path, index, begin)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "stamp": self._stamp}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._open()
        if self._stamp != state["stamp"]:
            raise ZooError(f"{self.path}: the file changed while it was in use; start again")
