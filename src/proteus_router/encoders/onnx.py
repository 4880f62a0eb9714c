"""MiniLM at run time: onnxruntime and tokenizers, no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from proteus_router.encoders.minilm_source import GRAPH_VERSION
from proteus_router.encoders.minilm_store import BUILD_COMMAND, INSTALL_COMMAND, open_minilm
from proteus_router.errors import EncoderError

if TYPE_CHECKING:
    from proteus_router.encoders.minilm_graph import Precision

__all__ = ["MAX_TOKENS", "MiniLMEncoder"]

MAX_TOKENS = 256  # what the published model was trained and is configured for
_DIM = 384
_VOCABULARY = 30_522


class MiniLMEncoder:
    """all-MiniLM-L6-v2: text -> (n, 384) float32 of unit length; texts are cut at 256 tokens.

    Each text is run by itself, whatever the batch. On a processor a padded batch is no faster (measured in
    `docs/encoders.md`), and this way a text's embedding is the same to the bit alone, in a batch, and in
    training. A batch is spread over threads instead.

    Parameters
    ----------
    precision
        ``int8`` (default) or ``fp32``; they are different encoders with different fingerprints.
    cache_dir
        Where it is built; `cache_root()` if None.
    threads
        Texts encoded at once; the number of usable processors if None.

    Raises
    ------
    EncoderError
        The extra is not installed, the model is not built, or its files were changed.
    """

    dim = _DIM

    def __init__(
        self, precision: Precision = "int8", *, cache_dir: Path | None = None, threads: int | None = None
    ) -> None:
        runtime, tokenizers = _require()
        built = open_minilm(cache_dir)
        self.name = "minilm" if precision == "int8" else f"minilm-{precision}"
        self._tokenizer = _tokenizer(tokenizers, built.read_tokenizer())
        self._session = _session(runtime, built.read_graph(precision))
        identity = {
            "encoder": self.name,
            "weights": built.weights_sha256,
            "tokenizer": built.tokenizer_sha256,
            "graph_version": GRAPH_VERSION,
            "max_tokens": MAX_TOKENS,
        }
        self.fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._threads = threads or _usable_processors()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 384) float32; an empty list gives (0, 384)."""
        encodings = self._tokenizer.encode_batch([_valid_unicode(text) for text in texts])
        out = np.empty((len(encodings), _DIM), dtype=np.float32)
        if len(encodings) == 1 or self._threads == 1:
            for row, encoding in enumerate(encodings):
                out[row] = self._run(encoding.ids)
            return out
        with ThreadPoolExecutor(self._threads) as pool:  # onnxruntime releases the interpreter lock
            for row, vector in enumerate(pool.map(self._run, [encoding.ids for encoding in encodings])):
                out[row] = vector
        return out

    def _run(self, ids: list[int]) -> NDArray[np.float32]:
        tokens = np.array([ids], dtype=np.int64)
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        vector: NDArray[np.float32] = self._session.run(None, inputs)[0][0]
        return vector


def _require() -> tuple[Any, Any]:
    try:
        import onnxruntime
        import tokenizers
    except ImportError as error:
        raise EncoderError(f"minilm: {error.name} is not installed.", hint=INSTALL_COMMAND) from error
    return onnxruntime, tokenizers


def _tokenizer(tokenizers: Any, content: bytes) -> Any:
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception
        raise EncoderError(f"minilm: tokenizer.json cannot be read ({error}).", hint=BUILD_COMMAND) from error
    if tokenizer.get_vocab_size() != _VOCABULARY:
        raise EncoderError(
            f"minilm: tokenizer.json has {tokenizer.get_vocab_size()} entries, the model {_VOCABULARY}.",
            hint=f"Run: {BUILD_COMMAND} --force",
        )
    tokenizer.no_padding()  # the published file pads to 128
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def _session(runtime: Any, graph: bytes) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # threads go to texts, not into one product
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class
        raise EncoderError(
            f"minilm: onnxruntime {runtime.__version__} refuses the graph ({error}).",
            hint=f"Upgrade it: {INSTALL_COMMAND}",
        ) from error


def _valid_unicode(text: str) -> str:
    """Lone surrogates, which have no UTF-8 form, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _usable_processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
