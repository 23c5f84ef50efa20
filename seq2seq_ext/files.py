"""Files that are either wholly written or not there at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_TEMPORARY = ".tmp"


def remove_temporaries(folder: Path) -> None:
    """Removes what killed writers left in a folder that nobody else writes to."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        path.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file that replaces ``path`` in one step when the block ends well.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the
    name: a process killed at any moment leaves the old file or the new one, never a half.

    Args:
        path: the file to write; its folder must exist.
        mode: ``"w"`` (UTF-8 text, ``\\n`` kept as it is) or ``"wb"``.

    Raises:
        OSError: the folder can't be written, or ``path`` is one itself.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
        >>> with atomic_write(path) as file:
        ...     _ = file.write("whole")
        >>> path.read_text()
        'whole'
    """
    path = Path(path)
    descriptor, temporary = _temporary_beside(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with os.fdopen(descriptor, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; the finished one gets the permissions any new file has.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _temporary_beside(path: Path) -> tuple[int, str]:
    """An open file and its name; errors name ``path``, and come before anything is written."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        return tempfile.mkstemp(_TEMPORARY, f".{path.name}.", path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself survive a power cut, where folders can be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
