"""RouterBench's pickled frame (arXiv 2403.12031) into an `OutcomeTable`.

RouterBench is published as a pickle, and a pickle runs code when it is loaded. This is the only file of the
package that opens one, and it opens no other kind: `_FrameUnpickler` resolves the few names that a pandas
frame of numbers and text is rebuilt from, and stops at the first other name before anything is called.

The frame is wide: `sample_id`, `prompt` (the printed form of a list of turns), `eval_name`, and for each
model a score column `<model>` and `<model>|total_cost` in USD; `<model>|model_response` and the oracle's
choice are not needed. A prompt that no model answered is left out.
"""

from __future__ import annotations

import ast
import importlib
import pickle  # noqa: TID251  the one exception, for a published data set that has no other form
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.tables import RawTable, require
from proteus_router.data.wideform import from_wide
from proteus_router.errors import DataError, SchemaError

__all__ = ["read_routerbench"]

_COST = "|total_cost"


def read_routerbench(path: Path, *, max_query_chars: int = 200_000) -> OutcomeTable:
    """Read one of RouterBench's wide pickles (`routerbench_0shot.pkl`, `routerbench_5shot.pkl`).

    Raises
    ------
    SchemaError
        Not a pickled pandas frame, a pickle that names anything a frame does not need, or another layout.
    DataError
        pandas is not installed.
    """
    frame = _load_frame(Path(path))
    names = tuple(str(name) for name in frame.columns)
    layout = RawTable(path, names, dict.fromkeys(names), len(frame))
    require(
        layout, ("sample_id", "prompt", "eval_name"), hint="Give RouterBench's wide file, not the raw one."
    )
    models = [name.removesuffix(_COST) for name in names if name.endswith(_COST)]
    if not models:
        raise SchemaError(
            f"{path}: no columns `<model>{_COST}`.", hint="Give RouterBench's wide file, not the raw one."
        )
    require(layout, models)
    frame = frame[frame[models].notna().any(axis=1)]  # the 5-shot file has prompts that nobody answered
    columns = {
        "query_id": pa.array([str(value) for value in frame["sample_id"]], type=pa.large_string()),
        "query": pa.array([_prompt_text(path, value) for value in frame["prompt"]], type=pa.large_string()),
        "task": pa.array([str(value) for value in frame["eval_name"]], type=pa.large_string()),
    }
    for model in models:
        columns[f"{model}|score"] = _number_column(path, frame, model)
        columns[f"{model}|cost_usd"] = _number_column(path, frame, model + _COST)
    wide = RawTable(path, tuple(columns), columns, len(frame))
    return from_wide(wide, max_query_chars=max_query_chars, name=path.stem)


def _load_frame(path: Path) -> Any:
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise DataError(
            f"{path}: reading RouterBench's pickle needs pandas.",
            hint="pip install 'proteus-router[routerbench]'",
        ) from error
    try:
        with path.open("rb") as file:
            frame = _FrameUnpickler(file).load()
    except OSError as error:
        raise SchemaError(f"{path}: cannot be read ({error.strerror}).", hint="Check the path.") from error
    except SchemaError as error:
        raise SchemaError(f"{path}: {error.message}", hint=error.hint) from error
    except Exception as error:  # damaged pickles raise anything at all
        raise SchemaError(
            f"{path}: not a readable pickle of a pandas frame ({type(error).__name__}).",
            hint="It may be truncated: fetch it again.",
        ) from error
    if not isinstance(frame, pandas.DataFrame):
        raise SchemaError(
            f"{path}: holds a {type(frame).__name__}, not a pandas frame.", hint="Give RouterBench's file."
        )
    return frame


class _FrameUnpickler(pickle.Unpickler):
    """Rebuilds frames of numbers and text; any other name ends the loading."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        module, name = _RENAMED.get((module, name), (module, name))
        if (replacement := _REPLACED.get((module, name))) is not None:
            return replacement
        if name not in _ALLOWED.get(module, ()):
            raise SchemaError(
                f"the pickle asks for {module}.{name}, which no table needs; nothing was run.",
                hint="Do not open this file with pickle or pandas unless you trust its origin.",
            )
        for place in (module.replace("numpy.core", "numpy._core"), module):
            try:
                return getattr(importlib.import_module(place), name)
            except (ImportError, AttributeError):
                continue
        raise SchemaError(f"the pickle needs {module}.{name}, which the installed pandas does not have.")


def _latin1(text: str, encoding: str) -> bytes:
    """Stands in for `_codecs.encode`, by which old protocols write bytes; no other codec is looked up."""
    if encoding.replace("-", "").lower() != "latin1":
        raise ValueError(encoding)
    return text.encode("latin-1")


def _checked_arrow_array(data: Any) -> Any:
    """Stands in for `pyarrow.lib._restore_array`, which trusts the offsets in the file."""
    restored = importlib.import_module("pyarrow.lib")._restore_array(data)
    restored.validate(full=True)
    return restored


_ALLOWED: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "builtins": "slice bytearray",
        "numpy": "ndarray dtype",
        "numpy.core.multiarray": "_reconstruct scalar",
        "numpy.core.numeric": "_frombuffer",
        "pandas": "DataFrame Index RangeIndex StringDtype",
        "pandas.arrays": "ArrowStringArray",
        "pandas._libs.internals": "_unpickle_block",
        "pandas.core.arrays.string_": "StringDtype",
        "pandas.core.arrays.string_arrow": "ArrowStringArray",
        "pandas.core.frame": "DataFrame",
        "pandas.core.indexes.base": "_new_Index Index",
        "pandas.core.indexes.range": "RangeIndex",
        "pandas.core.internals.managers": "BlockManager",
        "pyarrow.lib": "py_buffer type_for_alias",
    }.items()
}
_RENAMED = {
    ("pandas.core.indexes.numeric", kind): ("pandas", "Index") for kind in ("Int64Index", "UInt64Index")
}
_REPLACED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _latin1,
    ("pyarrow.lib", "_restore_array"): _checked_arrow_array,
}


def _prompt_text(path: Path, prompt: Any) -> str:
    """The turns of a prompt, one after the other; a text that is not a printed list stays as it is."""
    if isinstance(prompt, str) and prompt.startswith("[") and prompt.endswith("]"):
        try:
            prompt = ast.literal_eval(prompt)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return str(prompt)
    if isinstance(prompt, (list, tuple, np.ndarray)):
        return "\n".join(str(turn) for turn in prompt)
    if not isinstance(prompt, str):
        raise SchemaError(f"{path}: column 'prompt' holds {type(prompt).__name__}, it must hold text.")
    return prompt


def _number_column(path: Path, frame: Any, name: str) -> pa.Array:
    """Numbers with NaN as null: in this source NaN stands for a model that gave no answer."""
    try:
        values = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"{path}: column {name!r} must hold numbers ({error}).") from error
    return pa.array(values, from_pandas=True)
