"""The members of a package file in order, read one by one: nothing is unpacked to a path that an archive names."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from zoo.errors import ZooError

Reader = Callable[[], bytes]
_AR_MAGIC, _AR_HEADER = b"!<arch>\n", 60


def members(file: Path) -> Iterator[tuple[str, Reader]]:
    """(name, reader) of every file in a wheel, npm tarball or Debian package; read one before the next is asked for.

    Raises:
        ZooError: the file is no such archive, or damaged.
    """
    try:
        if file.suffix == ".whl":
            with zipfile.ZipFile(file) as archive:
                for name in archive.namelist():
                    if not name.endswith("/"):
                        yield name, lambda name=name: archive.read(name)
        elif file.suffix == ".deb":
            yield from _tar_members(_data_of_deb(file))
        else:
            yield from _tar_members(file.open("rb"))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise ZooError(f"{file}: not the archive it should be ({error}); delete it and fetch it again") from error


def read_member(file: Path, suffix: str) -> bytes:
    """The one member whose name ends so. Raises ZooError without one, or with several."""
    found = [read() for name, read in members(file) if name.endswith(suffix)]
    if len(found) != 1:
        raise ZooError(f"{file}: {len(found)} members end with {suffix!r}, expected one; fetch the package again")
    return found[0]


def _tar_members(stream: io.BufferedIOBase) -> Iterator[tuple[str, Reader]]:
    with stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            if member.isfile():
                yield member.name.removeprefix("./"), lambda member=member: archive.extractfile(member).read()


def _data_of_deb(file: Path) -> io.BytesIO:
    """The tar archive with a Debian package's files: the member data.tar.* of an ar archive (deb(5))."""
    with file.open("rb") as stream:
        if stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise ZooError(f"{file}: no Debian package; delete it and fetch it again")
        while len(header := stream.read(_AR_HEADER)) == _AR_HEADER:
            name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                return io.BytesIO(stream.read(size))
            stream.seek(size + size % 2, io.SEEK_CUR)
    raise ZooError(f"{file}: a Debian package without data; delete it and fetch it again")
