"""A folder that appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from proteus_router.errors import DataError

__all__ = ["new_folder"]


@contextmanager
def new_folder(target: Path, *, force: bool, ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that takes its place when the block ends well.

    On any error or interrupt the folder is removed and ``target`` stays as it was. What the system refuses
    (a full disk, no permission) stays the `OSError` it is.

    Parameters
    ----------
    force
        Replace an existing ``target``.
    ours
        Whether a file of an existing ``target`` is one this package writes; a folder holding anything else is
        never replaced, so that a mistyped path costs nothing.

    Raises
    ------
    DataError
        ``target`` exists and may not be replaced.
    """
    target = target.resolve()
    _check_replaceable(target, force=force, ours=ours)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        building.chmod(0o755)  # mkdtemp's folders are private; a data set is as open as its parent
        yield building
        _swap(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _check_replaceable(target: Path, *, force: bool, ours: Callable[[Path], bool]) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"{target}: is a file, not a folder.", hint="Choose another folder.")
    entries = sorted(path for path in target.rglob("*") if not path.is_dir())
    if not entries and not any(target.iterdir()):
        return
    foreign = [path for path in entries if not ours(path.relative_to(target))]
    if foreign:
        raise DataError(
            f"{target}: exists and holds {foreign[0].relative_to(target)}, which is no part of a data set.",
            hint="Choose another folder.",
        )
    if not force:
        raise DataError(
            f"{target}: already exists.", hint="Choose another folder, or replace it with --force."
        )


def _swap(building: Path, target: Path) -> None:
    """Put ``building`` in the place of ``target``; a replaced folder goes only once the new one stands."""
    if not target.exists():
        building.rename(target)
        return
    aside = building.with_suffix(".replaced")
    target.rename(aside)
    try:
        building.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
