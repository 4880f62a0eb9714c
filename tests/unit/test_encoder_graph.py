"""The hand-written graph against BERT in a few lines of numpy, on random weights of the real shapes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import erf, softmax

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from proteus_router.encoders.minilm_graph import DIM, build_graph  # noqa: E402

N_WORDS, N_POSITIONS, N_LAYERS, N_HEADS = 50, 40, 6, 12
Weights = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def weights() -> Weights:
    rng = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 0.05) -> NDArray[np.float32]:
        return rng.normal(0, scale, shape).astype(np.float32)

    def norm(name: str) -> Weights:
        return {f"{name}.weight": 1 + normal(DIM), f"{name}.bias": normal(DIM)}

    out: Weights = {
        "embeddings.word_embeddings.weight": normal(N_WORDS, DIM),
        "embeddings.position_embeddings.weight": normal(N_POSITIONS, DIM),
        "embeddings.token_type_embeddings.weight": normal(2, DIM),
        **norm("embeddings.LayerNorm"),
    }
    for layer in range(N_LAYERS):
        name = f"encoder.layer.{layer}"
        shapes = {
            **{f"attention.self.{key}": (DIM, DIM) for key in ("query", "key", "value")},
            "attention.output.dense": (DIM, DIM),
            "intermediate.dense": (4 * DIM, DIM),
            "output.dense": (DIM, 4 * DIM),
        }
        for part, shape in shapes.items():
            out[f"{name}.{part}.weight"] = normal(*shape)
            out[f"{name}.{part}.bias"] = normal(shape[0])
        out |= norm(f"{name}.attention.output.LayerNorm") | norm(f"{name}.output.LayerNorm")
    return out


def slow_linear(x: Any, weight: Any, bias: Any, precision: str) -> Any:
    if precision == "int8":  # one scale a token with 127 levels, one a weight row with 63
        weight_scale = np.abs(weight).max(axis=1) / 63
        token_scale = np.abs(x).max(axis=1, keepdims=True) / 127
        levels = np.rint(x / token_scale) @ np.rint(weight / weight_scale[:, None]).T
        return levels * token_scale * weight_scale + bias
    return x @ weight.T + bias


def slow_bert(weights: Weights, ids: list[int], precision: str) -> Any:
    """One text, no padding -> (384,) of unit length."""
    w = {key: value.astype(np.float64) for key, value in weights.items()}

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x: Any, name: str) -> Any:
        return slow_linear(x, w[f"{name}.weight"], w[f"{name}.bias"], precision)

    words = w["embeddings.word_embeddings.weight"]
    if precision == "int8":
        scale = np.abs(words).max(axis=1, keepdims=True) / 127
        words = np.rint(words / scale) * scale
    x = words[ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(N_LAYERS):
        name = f"encoder.layer.{layer}"
        query, key, value = (dense(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        mixed = np.empty_like(x)
        for head in range(N_HEADS):
            part = slice(head * 32, (head + 1) * 32)
            mixed[:, part] = softmax(query[:, part] @ key[:, part].T / np.sqrt(32), axis=1) @ value[:, part]
        x = norm(x + dense(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        wide = dense(x, f"{name}.intermediate.dense")
        wide = wide * 0.5 * (1 + erf(wide / np.sqrt(2)))
        x = norm(x + dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def run(model: Any, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    out: NDArray[np.float32] = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return out


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-6), ("int8", 2e-3)])
def test_graph_equals_slow_bert_with_and_without_padding(
    weights: Weights, precision: Literal["fp32", "int8"], tolerance: float
) -> None:
    rng = np.random.default_rng(1)
    texts = [list(rng.integers(1, N_WORDS, size)) for size in (1, 7, 30)]
    ids = np.zeros((3, 30), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    padded = run(build_graph(weights, precision), ids, mask)
    expected = np.array([slow_bert(weights, text, precision) for text in texts])
    # int8: a value within float32 rounding of half a level may fall to either side, and carries on from there.
    np.testing.assert_allclose(padded, expected, atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(padded, axis=1), 1, atol=1e-6)
    assert padded.dtype == np.float32


def test_int8_differs_from_fp32_and_stays_close(weights: Weights) -> None:
    ids = np.random.default_rng(2).integers(1, N_WORDS, (4, 20))
    mask = np.ones_like(ids)
    full, small = (run(build_graph(weights, precision), ids, mask) for precision in ("fp32", "int8"))
    cosine = (full * small).sum(axis=1)
    assert (cosine > 0.99).all()
    assert not np.array_equal(full, small)


def test_the_same_weights_give_the_same_bytes(weights: Weights) -> None:
    first, second = (build_graph(weights, "int8").SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_weight_levels_use_seven_bits(weights: Weights) -> None:
    from onnx import numpy_helper

    model = build_graph(weights, "int8")
    levels = [
        numpy_helper.to_array(constant)
        for constant in model.graph.initializer
        if constant.name.endswith("levels") and "encoder" in constant.name
    ]
    assert len(levels) == 4 * N_LAYERS
    # The byte product of processors without VNNI adds two of 255 * weight into 16 bits.
    assert max(int(np.abs(level.astype(int)).max()) for level in levels) * 255 * 2 <= 32_767
