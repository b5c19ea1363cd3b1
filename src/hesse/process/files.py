"""Files are there whole or not at all: the only place that writes them.

A file is made in a private folder beside its place, synced, and renamed. Nobody can foresee that
folder's name or reach into it, and whatever a library leaves in it goes with it. A folder that a
killed process left is known by its name, and removed by the next file beside it.
"""

import contextlib
import errno
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hesse.errors import HesseError, HesseFileError, HesseTypeError, HesseValueError, readable_bytes

if TYPE_CHECKING:
    from torch import Tensor

# The machine and the process that make it, as several machines may share a folder.
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_PARTIAL = re.compile(r"\.hesse-([0-9a-f]{8})-(\d+)-\w+\.partial")
# Seconds after which a folder whose process cannot be asked is one that was left.
_ABANDONED = 24 * 3600.0
_KINDS = {
    stat.S_IFDIR: "a folder; name a file in it",
    stat.S_IFIFO: "a pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}

_ADVICE = {
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ENOSPC: "make room, or name another",
    errno.EDQUOT: "make room, or name another",
    errno.EFBIG: "the limit for the size of files is in the way",
}


def require_path(path: Any, argument: str) -> str:
    """The text of a path that a file system could have.

    Raises:
        HesseTypeError: it is no text; ``argument`` begins the message.
        HesseValueError: it is empty, or has characters that no path has.

    Examples:
        >>> require_path("", "load")
        Traceback (most recent call last):
        hesse.errors.HesseValueError: load: the path is empty; name a file
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        hint = "; decode it with os.fsdecode" if isinstance(text, bytes) else ""
        raise HesseTypeError(
            f"{argument}: expected a path, a str or os.PathLike, got {type(path).__name__}{hint}"
        )
    if not text:
        raise HesseValueError(f"{argument}: the path is empty; name a file")
    try:
        if b"\0" in os.fsencode(text):
            raise HesseValueError(f"{argument}: {text!r} holds a null character; name a file")
    except UnicodeEncodeError as error:
        raise HesseValueError(
            f"{argument}: {text!r} cannot be a path here ({error.reason}); name a file"
        ) from error
    return text


@contextlib.contextmanager
def told(argument: str, path: Any) -> Iterator[None]:
    """While something is written at a place, what the system says of it is said in hesse's words.

    Args:
        argument: the name of the path, which begins the message.
        path: the place, as the user gives it.

    Raises:
        HesseFileError: what was wrong, and what to do.
    """
    try:
        yield
    except HesseError:
        raise
    except OSError as error:
        raise HesseFileError(
            f"{argument}: cannot write {os.fspath(path)!r}: {error.strerror or error};"
            f" {_ADVICE.get(error.errno or 0, 'name another')}"
        ) from error


def require_file(path: Any, argument: str) -> str:
    """The text of the path of a file that is there.

    Raises:
        HesseFileError: it is not, or is a folder.
    """
    text = require_path(path, argument)
    if os.path.isdir(text):
        raise HesseFileError(f"{argument}: {text!r} is a folder, not a file")
    # Neither a pipe, which would wait for somebody to write to it.
    if not os.path.isfile(text):
        raise HesseFileError(f"{argument}: there is no file {text!r}")
    return text


def require_place(path: Any, argument: str, size: int = 1) -> Path:
    """Where a file of so many bytes will be written, tried out; the end of a link, not the link.

    Args:
        path: as the user gives it.
        argument: its name, which begins the message.
        size: as far as it is known before the work.

    Raises:
        HesseFileError: it could not be written: says why.
    """
    named = require_path(path, argument)
    shown = repr(named)
    with told(argument, named):
        target = Path(os.path.realpath(named, strict=False))
        held = _stat(Path(named))
        if held is not None and not stat.S_ISREG(held.st_mode):
            kind = _KINDS.get(stat.S_IFMT(held.st_mode), "not a file")
            raise HesseFileError(f"{argument}: {shown} is {kind}")
        # By its mode as well: who may do everything would replace what was put out of reach.
        if held is not None and not (held.st_mode & 0o222 and os.access(target, os.W_OK)):
            raise HesseFileError(
                f"{argument}: {shown} is read-only; make it writable, or name another"
            )
        if not target.parent.is_dir():
            folder = Path(named).parent if target.name == Path(named).name else target.parent
            raise HesseFileError(
                f"{argument}: there is no folder {str(folder)!r}; make it first, or name another"
            )
        _remove_abandoned(target.parent)
        with _private(target) as partial:
            partial.touch()
        disk = shutil.disk_usage(target.parent)
    # A total of nothing: a file system that does not tell.
    if disk.free < size and disk.total:
        raise HesseFileError(
            f"{argument}: {shown} takes {readable_bytes(size)}, and {readable_bytes(disk.free)} are"
            " free on its disk; make room, or name another"
        )
    return target


def free_bytes(folder: Path, argument: str) -> int:
    """How many bytes are free on the disk of a folder.

    Raises:
        HesseFileError: there is no such folder.
    """
    try:
        disk = shutil.disk_usage(folder)
    except OSError as error:
        raise HesseFileError(
            f"{argument}: there is no folder {str(folder)!r}; make it first, or name another"
        ) from error
    # A total of nothing: a file system that does not tell.
    return disk.free if disk.total else 2**63


@contextlib.contextmanager
def replacing(path: Any, argument: str, size: int = 1) -> Iterator[Path]:
    """A place to write a file to by any means, from which it is moved when all went well.

    An earlier file there keeps its mode and stays until then; a link stays, and its end is written.

    Args:
        path, argument, size: as for `require_place`.

    Raises:
        HesseFileError: it cannot be written; there is nothing half-written then.

    Examples:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/a.txt", "save") as partial:
        ...         _ = partial.write_text("all of it")
        ...     os.listdir(folder)
        ['a.txt']
    """
    target = require_place(path, argument, size)
    with told(argument, path):
        with _private(target) as partial:
            # A new file has the mode that any has here; some libraries make theirs private.
            partial.touch()
            old = _stat(target)
            mode = (partial.stat() if old is None else old).st_mode
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            if old is not None and hasattr(os, "chown"):
                # Only who may do everything can; for others it is theirs anyway.
                with contextlib.suppress(OSError):
                    os.chown(partial, old.st_uid, old.st_gid)
            partial.chmod(stat.S_IMODE(mode))
            os.replace(partial, target)
        _sync_folder(target.parent)


def require_folder_place(path: Any, argument: str) -> Path:
    """Where a folder will be made, tried out; the end of a link, not the link.

    Raises:
        HesseFileError: it could not be made: says why.
    """
    named = require_path(path, argument)
    with told(argument, named):
        target = Path(os.path.realpath(named, strict=False))
        if not target.parent.is_dir():
            raise HesseFileError(
                f"{argument}: there is no folder {str(target.parent)!r}; make it first, or name"
                " another"
            )
        _remove_abandoned(target.parent)
        with _private(target) as partial:
            partial.mkdir()
    return target


@contextlib.contextmanager
def making_folder(path: Any, argument: str) -> Iterator[Path]:
    """A folder to write into, which is moved to its place when all went well.

    Raises:
        HesseFileError: it cannot be written, or there is something in its place by then.
    """
    target = require_folder_place(path, argument)
    with told(argument, path):
        with _private(target) as partial:
            partial.mkdir()
            yield partial
            os.rename(partial, target)
        _sync_folder(target.parent)


def write_text(path: Any, argument: str, text: str) -> None:
    """A text in UTF-8; halves of pairs, which it has no bytes for, spelt out."""
    content = text.encode("utf-8", "backslashreplace")
    with replacing(path, argument, len(content)) as partial:
        partial.write_bytes(content)


def write_tensors(
    path: Any, argument: str, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]
) -> None:
    """Tensors by any names, and texts, in safetensors' format; `read_tensors` gives them back."""
    # Late: pages and pictures do not need them.
    import safetensors.torch

    size = sum(tensor.nbytes for tensor in tensors.values())
    # Names that the format keeps for itself or cannot hold stand in its metadata; longer than any
    # name, none in their place is taken.
    longest = max(map(len, tensors), default=0)
    aliases = {
        " " * longest + str(k): name for k, name in enumerate(tensors) if not _is_storable(name)
    }
    names = {name: alias for alias, name in aliases.items()}
    stored = {names.get(name, name): tensor for name, tensor in tensors.items()}
    texts = {**metadata, "names": json.dumps(aliases)} if aliases else dict(metadata)
    with replacing(path, argument, size) as partial:
        try:
            safetensors.torch.save_file(stored, partial, metadata=texts)
        except safetensors.SafetensorError as error:
            # A full disk, mostly, in words that are not the system's.
            raise OSError(str(error)) from error


def read_tensors(path: Any, argument: str) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """What `write_tensors` or another wrote: tensors by name, and texts.

    Raises:
        HesseFileError: there is no such file, or it holds no tensors.
    """
    import safetensors

    named = require_file(path, argument)
    try:
        with safetensors.safe_open(named, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dictionary)
            metadata: dict[str, str] = file.metadata() or {}
        aliases: Any = json.loads(metadata.pop("names", "{}"))
        if not isinstance(aliases, dict) or not set(aliases) <= set(tensors):
            raise ValueError("its names are of other tensors")
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise HesseFileError(f"{argument}: {named!r} cannot be read as tensors: {error}") from error
    return {str(aliases.get(key, key)): tensor for key, tensor in tensors.items()}, metadata


def read_texts(path: Any, argument: str) -> dict[str, str]:
    """The texts of a file of tensors; none where it cannot be read as one.

    Raises:
        HesseFileError: there is no such file.
    """
    import safetensors

    named = require_file(path, argument)
    try:
        with safetensors.safe_open(named, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError):
        return {}


def _is_storable(name: str) -> bool:
    return name != "__metadata__" and name.isprintable()


@contextlib.contextmanager
def _private(target: Path) -> Iterator[Path]:
    """The place of a file of the same name in a new folder beside it, of which nothing stays."""
    with tempfile.TemporaryDirectory(
        prefix=f".hesse-{_HOST}-{os.getpid()}-",
        suffix=".partial",
        # In the same folder: a rename is atomic within one file system only.
        dir=target.parent,
        ignore_cleanup_errors=True,
    ) as folder:
        yield Path(folder, target.name)


def _remove_abandoned(folder: Path) -> None:
    """What killed processes of this user left half-written there."""
    with os.scandir(folder) as entries:
        left = [match for entry in entries if (match := _PARTIAL.fullmatch(entry.name))]
    for match in left:
        path = folder / match[0]
        with contextlib.suppress(OSError):  # another process may have removed it
            held = path.lstat()
            # What is not of this user's making is not for us to remove.
            mine = not hasattr(os, "geteuid") or held.st_uid == os.geteuid()
            gone = match[1] == _HOST and not _runs(int(match[2]))
            abandoned = gone or time.time() - held.st_mtime > _ABANDONED
            if mine and abandoned and stat.S_ISDIR(held.st_mode):
                shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether there is such a process; where the system cannot be asked, yes."""
    if os.name != "posix":  # elsewhere a signal of zero is a signal
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _stat(path: Path) -> os.stat_result | None:
    """Of the end of a link; None where there is nothing yet."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _sync_folder(folder: Path) -> None:
    """So that the new name outlasts a power cut too; where a folder can be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
