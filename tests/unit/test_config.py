from __future__ import annotations

from pathlib import Path

import pytest

from proteus_router.config import TrainConfig, load_train_config
from proteus_router.errors import ConfigError


def _file(folder: Path, text: str) -> Path:
    path = folder / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _refusal(path: Path | None, **overrides: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_train_config(path, **overrides)
    return str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "{}"])
def test_an_empty_file_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert load_train_config(_file(tmp_path, text)) == load_train_config(None) == TrainConfig()


def test_a_file_sets_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    config = load_train_config(_file(tmp_path, "seed: 5\nheads:\n  n_folds: 4\n"))
    assert (config.seed, config.heads.n_folds) == (5, 4)
    assert config.model_dump(exclude={"seed", "heads"}) == TrainConfig().model_dump(exclude={"seed", "heads"})
    assert config.heads.model_dump(exclude={"n_folds"}) == TrainConfig().heads.model_dump(exclude={"n_folds"})


def test_a_dumped_configuration_loads_as_itself(tmp_path: Path) -> None:
    config = load_train_config(_file(tmp_path, "seed: 5\npolicy: {kappa_factor: null, steps: 7}\n"))
    assert load_train_config(_file(tmp_path, config.model_dump_json())) == config


def test_overrides_win_over_the_file_and_none_does_not(tmp_path: Path) -> None:
    path = _file(tmp_path, "seed: 5\nmode: paper\nconfidence: 0.9\n")
    config = load_train_config(path, seed=0, mode=None, confidence=0.99)
    assert (config.seed, config.mode, config.confidence) == (0, "paper", 0.99)


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("sede: 3", "sede", "seed"),
        ("polcy: {}", "polcy", "policy"),
        ("policy: {stepz: 3}", "policy.stepz", "steps"),
        ("heads: {n_fold: 3}", "heads.n_fold", "n_folds"),
    ],
)
def test_an_unknown_key_names_the_file_and_the_nearest_key(
    tmp_path: Path, text: str, key: str, nearest: str
) -> None:
    path = _file(tmp_path, text)
    assert _refusal(path) == f"{path}: unknown key {key!r}. Did you mean {nearest!r}?"


def test_a_key_like_no_other_gets_no_guess(tmp_path: Path) -> None:
    path = _file(tmp_path, "qqqqqqqq: 1")
    assert _refusal(path) == f"{path}: unknown key 'qqqqqqqq'."


def test_a_key_of_another_section_is_not_offered(tmp_path: Path) -> None:
    assert "Did you mean" not in _refusal(_file(tmp_path, "heads: {confidence: 0.9}"))


@pytest.mark.parametrize(
    ("text", "key", "given"),
    [
        ("seed: -1", "seed", "-1"),
        ("seed: 1.5", "seed", "1.5"),
        ("seed: one", "seed", "'one'"),
        ("confidence: 1.0", "confidence", "1.0"),
        ("confidence: 0.5", "confidence", "0.5"),
        ("confidence: .nan", "confidence", "nan"),
        ("calibration_share: 0", "calibration_share", "0"),
        ("mode: papre", "mode", "'papre'"),
        ("heads: {n_folds: 1}", "heads.n_folds", "1"),
        ("heads: 3", "heads", "3"),
        ("policy: null", "policy", "None"),
        ("policy: {temperature: .inf}", "policy.temperature", "inf"),
        ("policy: {kappa_factor: .inf}", "policy.kappa_factor", "inf"),
        ("policy: {gamma_init: 8}", "policy.gamma_init", "8"),
        ("paper: {steps: 0}", "paper.steps", "0"),
        ("1: 2", "1", "1"),
    ],
)
def test_a_value_out_of_range_names_file_key_and_value(
    tmp_path: Path, text: str, key: str, given: str
) -> None:
    path = _file(tmp_path, text)
    message = _refusal(path)
    assert message.startswith(f"{path}: {key}: ")
    assert f"(given {given})" in message


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    lines = _refusal(_file(tmp_path, "seed: -1\nsede: 3\npolicy: {stepz: 3}\n")).splitlines()
    assert len(lines) == 3


def test_a_bad_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "confidence: 2\n")
    lines = _refusal(path, seed=-1).splitlines()
    assert sorted(line.partition(": ")[0] for line in lines) == sorted([str(path), "settings"])


def test_an_unknown_override_is_refused_without_a_file() -> None:
    assert _refusal(None, sede=3) == "settings: unknown key 'sede'. Did you mean 'seed'?"


@pytest.mark.parametrize("text", ["{", "a: b: c", "\tseed: 1", "? [a]\n: 1", "seed: !!python/name:os.system"])
def test_what_is_not_yaml_is_refused(tmp_path: Path, text: str) -> None:
    path = _file(tmp_path, text)
    assert _refusal(path).startswith(f"{path}: not a YAML file")


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_bytes(b"seed: \xff\xfe\x80")
    assert _refusal(path).startswith(f"{path}: not a YAML file")


@pytest.mark.parametrize(
    ("text", "kind"), [("- seed", "list"), ("seed", "str"), ("3", "int"), ("[]", "list")]
)
def test_the_top_level_must_be_keys(tmp_path: Path, text: str, kind: str) -> None:
    path = _file(tmp_path, text)
    assert _refusal(path) == f"{path}: the top level must be a mapping of keys, not {kind}."


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert _refusal(missing) == f"{missing}: cannot be read (No such file or directory). Check --config."
    assert _refusal(tmp_path).startswith(f"{tmp_path}: cannot be read")


def test_a_configuration_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().seed = 3
