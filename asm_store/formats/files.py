"""Files that are there when they are whole, and not before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from .compression import compressor

PART = ".part"


@contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block has ended well.

    What is written is compressed as the name says. Meanwhile it is a hidden file beside `path`
    that ends in `.part`, which only a killed process leaves behind. What it replaces passes its
    permissions on.
    """
    # Through a symbolic link: it is not the link that is replaced.
    target = Path(path).resolve()
    _check(target, overwrite)
    compress = compressor(target.name)
    part = target.with_name(f".{target.name}.{uuid4().hex[:8]}{PART}")
    try:
        with part.open("xb") as file:
            if target.exists():
                shutil.copymode(target, part)
            with compress(file) as writer:
                yield writer
            file.flush()
            os.fsync(file.fileno())
        _check(target, overwrite)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _check(target: Path, overwrite: bool) -> None:
    if target.exists() and not target.is_file():
        raise OSError(f"{target} is not a regular file.")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} is there already.")
