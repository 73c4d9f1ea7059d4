"""Writing a file as a whole or not at all. stdlib only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name in the folder of ``path`` to write to; renamed to ``path`` at the end, removed on any error.

    The temporary name ends as ``path`` does, for libraries that choose a format by suffix.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=".", suffix=f".part{target.suffix}", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _take_usual_mode(temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _take_usual_mode(path: Path) -> None:
    """mkstemp makes private files; results get what a plain ``open`` would have given."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
