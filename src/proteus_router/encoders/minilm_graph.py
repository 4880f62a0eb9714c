"""all-MiniLM-L6-v2 written as an ONNX graph, straight from its weights: BERT, mean pooling, unit length.

The int8 form is made here too, not by a general quantiser, because that one sets ONE activation scale for a
whole run: a text's embedding then depends on its neighbours in the batch, and one large value coarsens all
others. Here every token has its own scale. Weights use 7 of their 8 bits: on x86 processors without VNNI the
byte product saturates above that, so with 7 the integer sums are exact and equal on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["DIM", "Precision", "build_graph"]

Precision = Literal["fp32", "int8"]

DIM = 384
_N_LAYERS, _N_HEADS = 6, 12
_EPSILON = 1e-12
_MASKED = 1e4  # taken from the attention logits of padding; exp(-1e4) is 0 in float32
_WEIGHT_LEVELS = 63  # 7 bits, see above
_TOKEN_LEVELS = 127
_ZERO_POINT = 128
_OPSET, _IR_VERSION = 20, 9

Weights = Mapping[str, NDArray[np.float32]]


@dataclass
class _Graph:
    """Nodes and constants as they are added; every method returns the name of its output."""

    precision: Precision
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(kind, *inputs, n_outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, n_outputs: int, **attributes: Any) -> list[str]:
        name = f"{kind}_{len(self.nodes)}"
        outputs = [f"{name}_{index}" for index in range(n_outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs

    def linear(self, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """x (batch, tokens, n_in), weight (n_out, n_in) -> (batch, tokens, n_out)."""
        product = self._int8_product if self.precision == "int8" else self._product
        return self.op("Add", product(x, name, weight), self.constant(f"{name}.bias", bias))

    def _product(self, x: str, name: str, weight: NDArray[np.float32]) -> str:
        return self.op("MatMul", x, self.constant(f"{name}.weight", weight.T))

    def _int8_product(self, x: str, name: str, weight: NDArray[np.float32]) -> str:
        scale, levels = _quantise_rows(weight, _WEIGHT_LEVELS)
        largest = self.op("ReduceMax", self.op("Abs", x), self.ints(-1), keepdims=1)  # (batch, tokens, 1)
        largest = self.op(
            "Max", largest, self.constant("tiny", np.float32(1e-12))
        )  # a token of zeros stays zero
        zero_point = self.constant("zero_point", np.uint8(_ZERO_POINT))
        one_level = self.constant("one_level", np.float32(1 / _TOKEN_LEVELS))
        # Each token is brought to [-1, 1] first, so that the fast operator with ONE scale does for all of them.
        as_bytes = self.op("QuantizeLinear", self.op("Div", x, largest), one_level, zero_point)
        integers = self.op("MatMulInteger", as_bytes, self.constant(f"{name}.levels", levels.T), zero_point)
        column_scale = self.constant(f"{name}.scale", scale / np.float32(_TOKEN_LEVELS))
        return self.op(
            "Mul", self.op("Mul", self.op("Cast", integers, to=TensorProto.FLOAT), column_scale), largest
        )

    def lookup(self, ids: str, name: str, table: NDArray[np.float32]) -> str:
        """ids (batch, tokens) -> rows of the table (batch, tokens, dim)."""
        if self.precision == "fp32":
            return self.op("Gather", self.constant(name, table), ids)
        scale, levels = _quantise_rows(table, _TOKEN_LEVELS)
        rows = self.op("Gather", self.constant(f"{name}.levels", levels), ids)
        scales = self.op("Gather", self.constant(f"{name}.scale", scale[:, None]), ids)
        return self.op("Mul", self.op("Cast", rows, to=TensorProto.FLOAT), scales)

    def layer_norm(self, x: str, name: str, weights: Weights) -> str:
        gain, offset = (
            self.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")
        )
        return self.op("LayerNormalization", x, gain, offset, axis=-1, epsilon=_EPSILON)


def _quantise_rows(table: NDArray[np.float32], levels: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Symmetric, one scale a row: table ~ scale[:, None] * levels."""
    largest = np.maximum(np.abs(table).max(axis=1), np.float32(1e-12))
    scale = (largest / levels).astype(np.float32)
    return scale, np.rint(table / scale[:, None]).astype(np.int8)


def build_graph(weights: Weights, precision: Precision) -> Any:
    """The model as an ``onnx.ModelProto``; the same weights give the same bytes.

    Inputs ``input_ids`` and ``attention_mask`` (batch, tokens) int64, at most 512 tokens; output
    ``embedding`` (batch, 384) float32 of unit length. Only domain-free ONNX operators are used.
    """
    graph = _Graph(precision)
    x = _embed(graph, weights)
    mask = graph.op("Cast", "attention_mask", to=TensorProto.FLOAT)  # (batch, tokens), 1 for a real token
    missing = graph.op("Sub", mask, graph.constant("one", np.float32(1)))
    penalty = graph.op("Mul", missing, graph.constant("masked", np.float32(_MASKED)))
    penalty = graph.op("Unsqueeze", penalty, graph.ints(1, 2))  # (batch, 1, 1, tokens)
    for layer in range(_N_LAYERS):
        x = _layer(graph, weights, f"encoder.layer.{layer}", x, penalty)
    _pool(graph, x, mask)
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM])
    body = helper.make_graph(graph.nodes, "minilm", ids, [embedding], list(graph.constants.values()))
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="proteus-router",
    )
    onnx.checker.check_model(model)
    return model


def _embed(graph: _Graph, weights: Weights) -> str:
    words = graph.lookup("input_ids", "words", weights["embeddings.word_embeddings.weight"])
    # One sentence a text, so every token has type 0: its vector joins the positions.
    places = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    length = graph.op("Shape", "input_ids", start=1, end=2)
    positions = graph.op("Slice", graph.constant("positions", places), graph.ints(0), length, graph.ints(0))
    return graph.layer_norm(graph.op("Add", words, positions), "embeddings.LayerNorm", weights)


def _layer(graph: _Graph, weights: Weights, name: str, x: str, penalty: str) -> str:
    def dense(value: str, part: str) -> str:
        key = f"{name}.{part}.dense"
        return graph.linear(value, key, weights[f"{key}.weight"], weights[f"{key}.bias"])

    attended = dense(_attention(graph, weights, f"{name}.attention.self", x, penalty), "attention.output")
    x = graph.layer_norm(graph.op("Add", x, attended), f"{name}.attention.output.LayerNorm", weights)
    widened = graph.op("Gelu", dense(x, "intermediate"))
    return graph.layer_norm(graph.op("Add", x, dense(widened, "output")), f"{name}.output.LayerNorm", weights)


def _attention(graph: _Graph, weights: Weights, name: str, x: str, penalty: str) -> str:
    width = DIM // _N_HEADS
    # Query, key and value in one product; the 1/sqrt(width) of the logits is folded into the query.
    parts = [
        (weights[f"{name}.{key}.weight"], weights[f"{name}.{key}.bias"]) for key in ("query", "key", "value")
    ]
    shrink = [np.float32(width**-0.5), np.float32(1), np.float32(1)]
    weight = np.concatenate([factor * part[0] for factor, part in zip(shrink, parts, strict=True)])
    bias = np.concatenate([factor * part[1] for factor, part in zip(shrink, parts, strict=True)])
    joined = graph.linear(x, f"{name}.qkv", weight, bias)  # (batch, tokens, 3 * 384)
    heads = graph.op("Reshape", joined, graph.ints(0, 0, 3, _N_HEADS, width))
    heads = graph.op("Transpose", heads, perm=[2, 0, 3, 1, 4])  # (3, batch, head, tokens, width)
    split = graph.ops("Split", heads, n_outputs=3, axis=0, num_outputs=3)
    query, key, value = (graph.op("Squeeze", part, graph.ints(0)) for part in split)
    logits = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
    shares = graph.op("Softmax", graph.op("Add", logits, penalty), axis=-1)  # (batch, head, tokens, tokens)
    mixed = graph.op("Transpose", graph.op("MatMul", shares, value), perm=[0, 2, 1, 3])
    return graph.op("Reshape", mixed, graph.ints(0, 0, DIM))


def _pool(graph: _Graph, x: str, mask: str) -> None:
    """Mean over real tokens, then unit length: the division by the count cancels, so the sum will do."""
    total = graph.op(
        "ReduceSum", graph.op("Mul", x, graph.op("Unsqueeze", mask, graph.ints(2))), graph.ints(1), keepdims=0
    )
    norm = graph.op("ReduceL2", total, graph.ints(1), keepdims=1)
    graph.nodes.append(helper.make_node("Div", [total, norm], ["embedding"], name="unit_length"))
