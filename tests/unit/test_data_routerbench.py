"""RouterBench's pickled frame is converted; a pickle that asks for anything else runs nothing."""

from __future__ import annotations

import builtins
import io
import os
import pickle  # noqa: TID251  to make the files that must be read, and those that must be refused
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proteus_router.data.routerbench import read_routerbench
from proteus_router.data.sources import read_outcomes, write_outcomes
from proteus_router.errors import DataError, SchemaError

pandas = pytest.importorskip("pandas")

MODELS = ("gpt-4-1106-preview", "meta/llama-2-70b-chat")


def frame(n: int = 60, *, text: Any = object) -> Any:
    columns: dict[str, Any] = {
        "sample_id": [f"mmlu.val.{i}" for i in range(n)],
        "prompt": [repr([f"turn one of {i}", 'it\'s "two"']) for i in range(n)],
        "eval_name": ["mmlu-law" if i % 3 else "mtbench" for i in range(n)],
    }
    for k, model in enumerate(MODELS):
        columns[model] = [float((i + k) % 2) for i in range(n)]
        columns[f"{model}|model_response"] = ["['an answer']"] * n
        columns[f"{model}|total_cost"] = [1e-5 * (i + k + 1) for i in range(n)]
    columns["oracle_model_to_route_to"] = ["no_model_correct"] * n
    made = pandas.DataFrame(columns)
    for name in made.columns:
        if isinstance(columns[name][0], str):
            made[name] = made[name].astype(text)
    made.columns = pandas.Index(list(made.columns), dtype=text)
    return made


def save(value: Any, path: Path, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("text", [object, "str"])
def test_a_frame_becomes_a_table(tmp_path: Path, protocol: int, text: Any) -> None:
    table = read_routerbench(save(frame(text=text), tmp_path / "rb_0shot.pkl", protocol))
    assert table.models == MODELS
    assert table.query_ids[3] == "mmlu.val.3"
    assert table.queries[3] == 'turn one of 3\nit\'s "two"'
    assert table.tasks is not None
    assert table.tasks[:2] == ("mtbench", "mmlu-law")
    assert table.scores[:2].tolist() == [[0, 1], [1, 0]]
    assert table.costs_usd[1].tolist() == [2e-5, 3.0000000000000004e-05]
    assert (table.name, table.simulated) == ("rb_0shot", False)
    write_outcomes(table, tmp_path / "rb")
    assert read_outcomes(tmp_path / "rb").fingerprint() == table.fingerprint()


def test_names_of_older_pandas_and_numpy_are_known(tmp_path: Path) -> None:
    """The published files name their classes by the private modules that older releases kept them in."""
    data = pickle.dumps(frame(), protocol=2)
    for new, old in (
        (b"cpandas\nDataFrame\n", b"cpandas.core.frame\nDataFrame\n"),
        (b"cpandas\nIndex\n", b"cpandas.core.indexes.base\nIndex\n"),
        (b"cpandas\nRangeIndex\n", b"cpandas.core.indexes.range\nRangeIndex\n"),
        (b"cnumpy._core.", b"cnumpy.core."),
    ):
        assert new in data
        data = data.replace(new, old)
    path = tmp_path / "old.pkl"
    path.write_bytes(data)
    assert read_routerbench(path).n_queries == 60


def test_a_missing_answer_stays_missing(tmp_path: Path) -> None:
    made = frame()
    made.loc[4, [MODELS[0], f"{MODELS[0]}|total_cost"]] = np.nan
    table = read_routerbench(save(made, tmp_path / "rb.pkl"))
    assert not table.observed[4, 0]
    assert table.observed.sum() == 119


def test_a_prompt_that_nobody_answered_is_left_out(tmp_path: Path) -> None:
    """As the 5-shot file has them; its prompts are one turn with the examples in it."""
    made = frame()
    made["prompt"] = [repr([f"Question: {i}?\nAnswer: A\n" * 5 + f"Question {i}?"]) for i in range(len(made))]
    made.loc[7, [column for model in MODELS for column in (model, f"{model}|total_cost")]] = np.nan
    table = read_routerbench(save(made, tmp_path / "routerbench_5shot.pkl"))
    assert table.n_queries == 59
    assert "mmlu.val.7" not in table.query_ids
    assert table.queries[0].count("Question: 0?") == 5
    assert table.name == "routerbench_5shot"


def test_prompts_that_are_no_printed_list_stay_as_they_are(tmp_path: Path) -> None:
    made = frame()
    made.loc[0, "prompt"] = "plain"
    made.loc[1, "prompt"] = "[not python]"
    made.loc[2, "prompt"] = "[" * 5_000 + "]"
    queries = read_routerbench(save(made, tmp_path / "rb.pkl")).queries
    assert queries[:2] == ("plain", "[not python]")
    assert queries[2].startswith("[[[")


class Hostile:
    """Pickles to a call of ``function`` with ``arguments``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "function",
    [os.system, builtins.eval, builtins.exec, builtins.getattr, np.load, pandas.read_pickle, io.open],
)
@pytest.mark.parametrize("inside_a_frame", [False, True])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, function: Any, inside_a_frame: bool) -> None:
    marker = tmp_path / "marker"
    argument = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w')"
    arguments = (str(marker), "w") if function is io.open else (argument,)
    value: Any = Hostile(function, *arguments)
    if inside_a_frame:
        made = frame()
        made["prompt"] = pandas.Series([value] * len(made), dtype=object)
        value = made
    with pytest.raises(SchemaError, match="nothing was run") as caught:
        read_routerbench(save(value, tmp_path / "bad.pkl"))
    assert "bad.pkl" in str(caught.value)
    assert not marker.exists()


def test_a_codec_is_not_looked_up(tmp_path: Path) -> None:
    import _codecs

    path = save(Hostile(_codecs.encode, "text", "rot13"), tmp_path / "bad.pkl")
    with pytest.raises(SchemaError, match="ValueError"):
        read_routerbench(path)


def test_the_whitelist_names_no_function_that_reads_or_runs() -> None:
    from proteus_router.data import routerbench

    allowed = {name for names in routerbench._ALLOWED.values() for name in names}
    assert not allowed & {
        "eval",
        "exec",
        "getattr",
        "open",
        "load",
        "read_pickle",
        "__import__",
        "compile",
        "system",
    }


def dropped(*names: str) -> Any:
    return frame().drop(columns=list(names))


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ([1, 2], "holds a list"),
        (dropped("prompt"), "'prompt' is missing"),
        (dropped("eval_name"), "'eval_name' is missing"),
        (dropped(MODELS[0]), f"'{MODELS[0]}' is missing"),
        (dropped(*(f"{model}|total_cost" for model in MODELS)), "no columns `<model>|total_cost`"),
        (frame().assign(**{MODELS[0]: "yes"}), "must hold numbers"),
        (frame().assign(**{MODELS[0]: 3.0}), "'gpt-4-1106-preview|score' is 3"),
        (frame().assign(**{MODELS[0]: np.nan}), "empty both"),
        (frame().assign(prompt=3), "'prompt' holds int"),
        (frame().assign(sample_id="same"), "'same' already stands"),
    ],
    ids=range(10),
)
def test_other_contents_are_refused(tmp_path: Path, value: Any, part: str) -> None:
    with pytest.raises(SchemaError) as caught:
        read_routerbench(save(value, tmp_path / "rb.pkl"))
    assert part in str(caught.value)
    assert "rb.pkl" in str(caught.value)


def test_damaged_or_missing_files_are_refused(tmp_path: Path) -> None:
    path = save(frame(), tmp_path / "rb.pkl")
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"PAR1" + whole, b"\x80\x05."):
        path.write_bytes(damaged)
        with pytest.raises(SchemaError, match="not a readable pickle"):
            read_routerbench(path)
    with pytest.raises(SchemaError, match="cannot be read"):
        read_routerbench(tmp_path / "nowhere.pkl")


def test_without_pandas_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(frame(), tmp_path / "rb.pkl")
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(DataError, match=r"pip install 'proteus-router\[routerbench\]'"):
        read_routerbench(path)
