"""Parquet, CSV and JSONL files into a `RawTable`: the only code that knows file formats.

A reader answers for the container (found, not empty, readable, UTF-8, unique column names), never for the
meaning of a value.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from proteus_router.data.tables import RawTable
from proteus_router.errors import SchemaError

__all__ = ["SUFFIXES", "read_table"]

SUFFIXES = (".parquet", ".csv", ".jsonl")
"""File name endings of the formats read and written."""

_Keep = Callable[[str], bool]


def read_table(path: Path, keep: _Keep) -> RawTable:
    """Read the columns that ``keep`` wants.

    Raises
    ------
    SchemaError
        The file is missing, empty, of another format, damaged, not UTF-8, names a column twice or has no
        rows.
    """
    if path.suffix not in _READERS:
        raise SchemaError(
            f"{path}: {path.suffix or 'no'} file ending; known are {', '.join(SUFFIXES)}.", hint=_other(path)
        )
    try:
        if not path.is_file():
            raise SchemaError(f"{path}: no such file.", hint="Check the path.")
        if path.stat().st_size == 0:
            raise SchemaError(f"{path}: the file is empty.", hint="Write it again.")
        table = _READERS[path.suffix](path, keep)
    except OSError as error:
        raise SchemaError(
            f"{path}: cannot be read ({error.strerror or error}).", hint="Check your rights."
        ) from error
    if table.n_rows == 0:
        raise SchemaError(f"{path}: the file has no rows.", hint="Write it again.")
    return table


def _other(path: Path) -> str:
    if path.suffix in {".pkl", ".pickle"}:
        return (
            "RouterBench's pickle is converted by `proteus data import --from routerbench FILE.pkl -o DIR`."
        )
    if path.suffix in {".json", ".ndjson"}:
        return "One JSON object a line is the format .jsonl."
    return "Convert it, or rename it if it is one of these."


def _read_parquet(path: Path, keep: _Keep) -> RawTable:
    try:
        with pq.ParquetFile(path) as file:
            names = _unique(path, list(file.schema_arrow.names))
            loaded = file.read(columns=[name for name in names if keep(name)])
            n_rows = file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise SchemaError(
            f"{path}: not a readable Parquet file ({_short(error)}).",
            hint="It may be truncated: write it again.",
        ) from error
    return RawTable(path, names, {name: loaded[name] for name in loaded.column_names}, n_rows)


def _read_csv(path: Path, keep: _Keep) -> RawTable:
    """Every cell as text: a column's type must not depend on which values happen to stand in it."""
    data = _utf8(path, path.read_bytes())
    problem: list[str] = []

    def stop(row: Any) -> str:
        problem.append(
            f"row {row.number - 1} has {row.actual_columns} cells, the header {row.expected_columns}"
        )
        return "error"

    parse = pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=stop)
    # One block: rows are numbered, and no row can be longer than a block.
    read = pa_csv.ReadOptions(use_threads=False, block_size=min(len(data) + 1, 2**31 - 1))
    try:
        with pa_csv.open_csv(pa.BufferReader(data), read_options=read, parse_options=parse) as reader:
            names = _unique(path, list(reader.schema.names))
        wanted = [name for name in names if keep(name)]
        convert = pa_csv.ConvertOptions(
            column_types={name: pa.large_string() for name in names},
            include_columns=wanted or list(names[:1]),
            strings_can_be_null=False,
            check_utf8=False,  # the whole file was
        )
        loaded = pa_csv.read_csv(
            pa.BufferReader(data), read_options=read, parse_options=parse, convert_options=convert
        )
    except (pa.ArrowException, OSError) as error:
        detail = problem[0] if problem else _short(error)
        raise SchemaError(
            f"{path}: not a readable CSV file ({detail}).",
            hint='Separate cells by commas, quote texts with "..." and double a quote inside them.',
        ) from error
    return RawTable(path, names, {name: loaded[name] for name in wanted}, loaded.num_rows, untyped=True)


def _read_jsonl(path: Path, keep: _Keep) -> RawTable:
    lines = _utf8(path, path.read_bytes()).decode("utf-8").split("\n")
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            continue
        try:
            row = decoder.decode(line)
        except (ValueError, RecursionError) as error:
            raise SchemaError(
                f"{path}, line {number}: not JSON ({error}).", hint="Write one object a line."
            ) from error
        if not isinstance(row, dict):
            raise SchemaError(
                f"{path}, line {number}: {_json_kind(row)}, not an object.", hint="Write one object a line."
            )
        rows.append(row)
        numbers.append(number)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    columns = {
        name: _json_column(path, name, [row.get(name) for row in rows], numbers)
        for name in names
        if keep(name)
    }
    return RawTable(path, names, columns, len(rows), lines=tuple(numbers))


_READERS: dict[str, Callable[[Path, _Keep], RawTable]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}


def _json_column(path: Path, name: str, values: list[Any], lines: list[int]) -> pa.Array:
    """One JSON key as a typed column: all text, or all numbers; null and absent are the same."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {int, float}:
        kind = pa.int64() if kinds == {int} else pa.float64()
        try:
            return pa.array(values, type=kind)
        except (OverflowError, pa.ArrowInvalid):
            return pa.array([None if value is None else _float(value) for value in values], type=pa.float64())
    if kinds == {str}:
        try:
            return pa.array(values, type=pa.large_string())
        except UnicodeEncodeError as error:
            for line, value in zip(lines, values, strict=True):
                if value is not None and any("\ud800" <= character <= "\udfff" for character in value):
                    raise SchemaError(
                        f"{path}, line {line}: {name!r} holds half of a surrogate pair, no character.",
                        hint="Write the file again as UTF-8.",
                    ) from error
            raise
    first = next(value for value in values if value is not None)
    for line, value in zip(lines, values, strict=True):
        if isinstance(value, (dict, list, bool)):
            raise SchemaError(
                f"{path}, line {line}: {name!r} holds {_json_kind(value)}; it must hold text or a number.",
                hint="Write true and false as 1 and 0."
                if isinstance(value, bool)
                else "Write a plain value.",
            )
        if value is not None and isinstance(value, str) != isinstance(first, str):
            raise SchemaError(
                f"{path}, line {line}: {name!r} holds {_json_kind(value)}, but {_json_kind(first)} before.",
                hint="Give every line the same type.",
            )
    raise AssertionError("every mixture of JSON types is one of the above")


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _json_kind(value: Any) -> str:
    kinds = {
        bool: "true/false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), "null")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"key {twice!r} stands twice")
    return row


def _constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is not a JSON value; leave out what is missing")


def _utf8(path: Path, data: bytes) -> bytes:
    """The bytes without a byte order mark, checked to be UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SchemaError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not valid UTF-8.",
            hint="Write the file again as UTF-8.",
        ) from error
    return data.removeprefix(b"\xef\xbb\xbf")


def _unique(path: Path, names: list[str]) -> tuple[str, ...]:
    for name, count in Counter(names).items():
        if count > 1:
            raise SchemaError(
                f"{path}: column {name!r} stands there {count} times.", hint="Keep one of them."
            )
    return tuple(names)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
