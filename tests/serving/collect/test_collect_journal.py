from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from proteus_router.data.sources import read_outcomes
from proteus_router.errors import DataError
from proteus_router.serving.collect import Journal, Prompt, outcome_table, write_data_set
from proteus_router.serving.collect.journal import JOURNAL_FILE, Collected

SETTINGS = {"grader": "exact", "pattern": None}
PROMPTS = [Prompt("a", "first?", "x"), Prompt("b", "second?\u2028", "x"), Prompt("c", "third?", "y")]


def _outcome(prompt: Prompt, model: str, score: float = 1.0) -> Collected:
    return Collected(
        prompt.query_id, prompt.fingerprint, model, score, 0.01, 3, 4, None, answer="l1\nl2\u2028\ud83d"
    )


def _fill(folder: Path) -> None:
    with Journal(folder, SETTINGS) as journal:
        journal.add(_outcome(PROMPTS[0], "small", 0.0))
        journal.add(_outcome(PROMPTS[0], "large"))
        journal.add(_outcome(PROMPTS[1], "large", 0.5))


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    _fill(tmp_path / "new" / "folder")
    with Journal(tmp_path / "new" / "folder", SETTINGS) as journal:
        assert len(journal) == 3
        assert ("a", "small") in journal
        assert ("b", "small") not in journal
        assert list(journal)[2] == _outcome(PROMPTS[1], "large", 0.5)


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_that_was_cut_off_is_forgotten_and_those_before_are_not(cut: int, tmp_path: Path) -> None:
    _fill(tmp_path)
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(tmp_path, SETTINGS) as journal:
        assert [(outcome.query_id, outcome.model) for outcome in journal] == [("a", "small"), ("a", "large")]
        journal.add(_outcome(PROMPTS[2], "small"))
    with Journal(tmp_path, SETTINGS) as journal:
        assert len(journal) == 3


def test_a_long_line_that_was_cut_off_leaves_nothing_behind(tmp_path: Path) -> None:
    _fill(tmp_path)
    with (tmp_path / JOURNAL_FILE).open("ab") as file:
        file.write(b'{"query_id": "' + b"x" * 5000)
    with Journal(tmp_path, SETTINGS) as journal:
        journal.add(_outcome(PROMPTS[2], "small"))
    assert (tmp_path / JOURNAL_FILE).read_bytes().endswith(b"}\n")
    with Journal(tmp_path, SETTINGS) as journal:
        assert len(journal) == 4


def test_an_outcome_is_on_disk_as_soon_as_it_is_added(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        journal.add(_outcome(PROMPTS[0], "small"))
        lines = (tmp_path / JOURNAL_FILE).read_bytes().splitlines()
        assert json.loads(lines[1])["model"] == "small"


def test_other_settings_are_refused(tmp_path: Path) -> None:
    _fill(tmp_path)
    with pytest.raises(DataError, match="collected with grader 'exact', now it is 'regex'"):
        Journal(tmp_path, {"grader": "regex", "pattern": "x"})


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    _fill(tmp_path)
    path = tmp_path / JOURNAL_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{rubbish\n" + lines[2])
    with pytest.raises(DataError, match="damaged"):
        Journal(tmp_path, SETTINGS)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        Journal(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("fmt", ["parquet", "csv", "jsonl"])
def test_the_data_set_holds_what_was_collected_and_nothing_else(fmt: str, tmp_path: Path) -> None:
    _fill(tmp_path)
    with Journal(tmp_path, SETTINGS) as journal:
        table = outcome_table(PROMPTS, journal, name="mine", simulated=True)
    assert table is not None
    write_data_set(table, tmp_path, fmt)  # type: ignore[arg-type]
    write_data_set(table, tmp_path, "jsonl")  # a second run replaces the files of the first, of any format
    read = read_outcomes(tmp_path, for_training=False)
    assert (read.query_ids, read.models) == (("a", "b"), ("small", "large"))
    assert read.tasks == ("x", "x")
    np.testing.assert_array_equal(read.scores, [[0.0, 1.0], [np.nan, 0.5]])
    np.testing.assert_array_equal(read.costs_usd, [[0.01, 0.01], [np.nan, 0.01]])
    assert (read.name, read.simulated) == ("mine", True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        JOURNAL_FILE,
        "dataset.json",
        "outcomes.jsonl",
        "queries.jsonl",
    ]


def test_an_id_whose_text_has_changed_is_refused(tmp_path: Path) -> None:
    _fill(tmp_path)
    with Journal(tmp_path, SETTINGS) as journal, pytest.raises(DataError, match="'a' has another text"):
        outcome_table([replace(PROMPTS[0], query="other?")], journal, name="mine")


def test_nothing_collected_is_no_data_set(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        assert outcome_table(PROMPTS, journal, name="mine") is None
