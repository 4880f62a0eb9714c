"""One file's columns, and the checks every column passes before a value is believed.

A `RawTable` holds what a reader found; `identifiers`, `texts` and `numbers` turn a column into plain values
or say which row is wrong, why, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from proteus_router.errors import SchemaError
from proteus_router.types import BoolArray, FloatArray

__all__ = ["RawTable", "check_optional_names", "identifiers", "numbers", "refuse", "require", "texts"]

_NEAR_OPTIONAL = 0.85  # an unknown column this like an optional one is taken for a misspelling of it


@dataclass(frozen=True)
class RawTable:
    """Columns as read, before any check of values.

    Attributes
    ----------
    path
        File they came from; every message starts with its name.
    names
        All columns of the file, also those not loaded.
    columns
        The loaded columns, each (n_rows,).
    untyped
        The file holds text only (CSV): numbers are parsed, an empty cell is a missing value.
    lines
        Line of each row where the file has one line a row (JSONL), else None: rows are counted from 1.
    """

    path: Path
    names: tuple[str, ...]
    columns: Mapping[str, pa.Array]
    n_rows: int
    untyped: bool = False
    lines: tuple[int, ...] | None = None

    def where(self, row: int) -> str:
        """The file and the row, as messages name them."""
        return f"{self.path}, " + (f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}")


def require(table: RawTable, names: Iterable[str], *, hint: str = "") -> None:
    """Raise `SchemaError` for the first column that is missing, with the nearest present name."""
    for name in names:
        if name in table.columns:
            continue
        near = _nearest(name, [given for given in table.names if given != name], cutoff=0.6)
        advice = f"Rename column {near!r} to {name!r}." if near else hint or f"Add column {name!r}."
        if len(table.names) == 1 and (separator := next((s for s in ";\t" if s in table.names[0]), "")):
            advice = f"Separate the columns by commas, not by {separator!r}."
        raise SchemaError(
            f"{table.path}: column {name!r} is missing; the file has {_listing(table.names)}.", hint=advice
        )


def check_optional_names(table: RawTable, known: Iterable[str], *, shown: str = "{}") -> None:
    """Raise `SchemaError` for an unknown column that looks like a misspelt optional one.

    Any other unknown column is left alone: prompts, answers and notes may stay in the file.
    """
    known = list(known)
    absent = [name for name in known if name not in table.names]
    for name in table.names:
        if name not in known and (near := _nearest(name, absent, cutoff=_NEAR_OPTIONAL)):
            raise SchemaError(
                f"{table.path}: unknown column {shown.format(name)!r}.",
                hint=f"Rename it to {shown.format(near)!r}, or to something unlike it if it is not meant.",
            )


def identifiers(table: RawTable, name: str) -> pa.Array:
    """Ids as text, (n_rows,); whole numbers are accepted and written out."""
    column = _plain(table.columns[name])
    if pa.types.is_integer(column.type):
        _no_nulls(table, name, column)
        return column.cast(pa.large_string())
    return texts(table, name, also="or whole numbers ")


def texts(table: RawTable, name: str, *, also: str = "") -> pa.Array:
    """Text column without nulls or blank cells, (n_rows,) large_string."""
    column = _plain(table.columns[name])
    if not (_is_text(column.type) or pa.types.is_null(column.type)):
        raise SchemaError(
            f"{table.path}: column {name!r} holds {_kind(column.type)}, it must hold text {also}".rstrip()
            + ".",
            hint=f"Write {name!r} as UTF-8 text.",
        )
    _check_utf8(table, name, column)
    _no_nulls(table, name, column)
    column = column.cast(pa.large_string())
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)
    if (row := _first(blank)) is not None:
        raise SchemaError(f"{table.where(row)}: {name!r} is empty.", hint="Fill it in, or remove the row.")
    return column


def numbers(table: RawTable, name: str) -> tuple[FloatArray, BoolArray]:
    """Values (n_rows,) and where a value is missing (n_rows,): a null, or an empty cell of a CSV file.

    Missing values are NaN; a NaN that the file itself holds is refused, for it never says why it is there.
    """
    column = _plain(table.columns[name])
    if table.untyped:
        column = _parse(table, name, column)
    elif pa.types.is_null(column.type):
        column = column.cast(pa.float64())
    elif not (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_decimal(column.type)
    ):
        raise SchemaError(
            f"{table.path}: column {name!r} holds {_kind(column.type)}, it must hold numbers.",
            hint="Write true and false as 1 and 0."
            if pa.types.is_boolean(column.type)
            else "Store it as a number.",
        )
    missing = np.asarray(pc.is_null(column))
    values = np.array(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    if (row := _first(np.isnan(values) & ~missing)) is not None:
        raise SchemaError(
            f"{table.where(row)}: {name!r} is NaN.",
            hint="Leave out what is missing: no row in the long form, an empty pair in the wide form.",
        )
    return values, missing


def refuse(table: RawTable, row: int, problem: str, hint: str = "") -> NoReturn:
    """Raise `SchemaError` for one row."""
    raise SchemaError(f"{table.where(row)}: {problem}", hint=hint)


def _parse(table: RawTable, name: str, column: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(column)
    cells = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)
    try:
        return cells.cast(pa.float64())
    except pa.ArrowInvalid as error:
        for row, cell in enumerate(cells.to_pylist()):
            if cell is not None and not _is_number(cell):
                raise SchemaError(
                    f"{table.where(row)}: {name!r} is {cell!r}, not a number.",
                    hint="Write numbers like 0.25 or 2.5e-05, without units, and leave out what is missing.",
                ) from error
        raise SchemaError(f"{table.path}: column {name!r}: {error}") from error


def _is_number(cell: str) -> bool:
    try:
        float(pa.scalar(cell).cast(pa.float64()).as_py())
    except pa.ArrowInvalid:
        return False
    return True


def _plain(column: Any) -> Any:
    """One contiguous array without a dictionary: writers are free to encode either way."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _check_utf8(table: RawTable, name: str, column: pa.Array) -> None:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        for row in range(len(column)):
            try:
                column[row].as_py()
            except UnicodeDecodeError:
                raise SchemaError(
                    f"{table.where(row)}: {name!r} is not valid UTF-8.", hint="Write the file again as UTF-8."
                ) from error
        raise SchemaError(f"{table.path}: column {name!r}: {error}") from error


def _no_nulls(table: RawTable, name: str, column: pa.Array) -> None:
    if column.null_count and (row := _first(pc.is_null(column))) is not None:
        raise SchemaError(f"{table.where(row)}: {name!r} is missing.", hint="Fill it in, or remove the row.")


def _first(flags: Any) -> int | None:
    found = np.flatnonzero(np.asarray(flags))
    return int(found[0]) if len(found) else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _kind(kind: pa.DataType) -> str:
    """What a column holds, in words a user of any format knows."""
    if pa.types.is_nested(kind):
        return "nested values"
    if pa.types.is_boolean(kind):
        return "true/false"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "numbers"
    return "text" if _is_text(kind) else str(kind)


def _nearest(name: str, candidates: list[str], *, cutoff: float) -> str | None:
    folded = {candidate.strip().lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.strip().lower(), list(folded), n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def _listing(names: tuple[str, ...], limit: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return (
        shown + (f" and {len(names) - limit} more" if len(names) > limit else "") if names else "no columns"
    )
