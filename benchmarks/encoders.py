"""Encoders side by side: time of one text, agreement of int8 with fp32, and what padding costs.

    PROTEUS_DATA=... python benchmarks/encoders.py [--queries 300] [--seed 0] [-o bench-results]

Every query goes through every encoder in turn, so that a busy machine slows all of them alike; the ratios are
what to read. One thread each. Writes RESULTS/encoders.json and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("OMP_NUM_THREADS", "1")

DATA_SETS = ("cascades9", "routerbench11", "mmlupro13")
MAX_TOKENS = 256

Encode = Callable[[str], NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the stock quantiser's advice
    fitting, queries = read_queries(options.queries, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        encoders, facts = make_encoders(fitting, Path(folder))
        rows = compare(encoders, queries)
    report = {
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "load_average": os.getloadavg()[0],
        "queries": len(queries),
        "seed": options.seed,
        **facts,
        "encoders": rows,
        "padding": padding(queries),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "encoders.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


def read_queries(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts to fit the lexical encoder on, and `n` others to time, evenly over the data sets."""
    import pyarrow.parquet as pq

    root = Path(os.environ.get("PROTEUS_DATA", "../shared/data"))
    rng = np.random.default_rng(seed)
    fitting: list[str] = []
    timed: list[str] = []
    for name in DATA_SETS:
        texts = pq.read_table(root / name / "queries.parquet", columns=["query"])["query"].to_pylist()
        order = rng.permutation(len(texts))
        share = n // len(DATA_SETS)
        timed += [texts[row] for row in order[:share]]
        fitting += [texts[row] for row in order[share : share + 2_000]]
    return fitting, [timed[row] for row in rng.permutation(len(timed))]


def make_encoders(fitting: Sequence[str], folder: Path) -> tuple[dict[str, Encode], dict[str, Any]]:
    from proteus_router.encoders.lexical import LexicalEncoder
    from proteus_router.encoders.minilm_store import build_minilm
    from proteus_router.encoders.onnx import MiniLMEncoder
    from proteus_router.encoders.transformer import TransformerEncoder

    started = time.perf_counter()
    built = build_minilm(cache_dir=folder)
    build_s = time.perf_counter() - started
    started = time.perf_counter()
    int8 = MiniLMEncoder("int8", cache_dir=folder, threads=1)
    load_s = time.perf_counter() - started
    fp32 = MiniLMEncoder("fp32", cache_dir=folder, threads=1)
    lexical = LexicalEncoder.fit(fitting)
    encoders: dict[str, Encode] = {
        "minilm-fp32": lambda text: fp32.encode([text])[0],
        "minilm (int8)": lambda text: int8.encode([text])[0],
        "lexical": lambda text: lexical.encode([text])[0],
    }
    for label, choices in (("default", {}), ("per channel", {"per_channel": True})):
        encoders[f"stock int8, {label}"] = stock_int8(built.folder / "model.onnx", fp32, choices, folder)
    source = offline_package()
    if source is not None:
        import torch

        torch.set_num_threads(1)
        transformer = TransformerEncoder(source)

        def unit(text: str) -> NDArray[np.float32]:
            row = transformer.encode([text])[0]
            scaled: NDArray[np.float32] = row / np.linalg.norm(row)
            return scaled

        encoders["torch fp32"] = unit
    return encoders, {"build_s": build_s, "load_s": load_s, "size_bytes": built.size_bytes}


def offline_package() -> Path | None:
    from proteus_router.encoders.minilm_source import find_offline_package

    return find_offline_package()


def stock_int8(graph: Path, fp32: Any, choices: dict[str, Any], folder: Path) -> Encode:
    """onnxruntime's own dynamic quantiser on the same graph, for comparison."""
    from onnxruntime.quantization import quantize_dynamic

    from proteus_router.encoders.onnx import _session

    path = folder / "stock.onnx"
    quantize_dynamic(graph, path, op_types_to_quantize=["MatMul"], **choices)
    import onnxruntime

    session = _session(onnxruntime, path.read_bytes())

    def encode(text: str) -> NDArray[np.float32]:
        ids = np.array([fp32._tokenizer.encode(text).ids], dtype=np.int64)
        row: NDArray[np.float32] = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[
            0
        ][0]
        return row

    return encode


def compare(encoders: dict[str, Encode], queries: Sequence[str]) -> dict[str, dict[str, float]]:
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    embedded: dict[str, list[NDArray[np.float32]]] = {name: [] for name in encoders}
    for encode in encoders.values():
        encode(queries[0])  # warm
    for text in queries:
        for name, encode in encoders.items():
            started = time.perf_counter()
            embedded[name].append(encode(text))
            seconds[name].append(time.perf_counter() - started)
    full = np.array(embedded["minilm-fp32"])
    reference = np.array(seconds["minilm-fp32"])
    rows = {}
    for name in encoders:
        ratio = reference / np.array(seconds[name])  # paired: the same text at almost the same moment
        row = {
            "p50_ms": 1e3 * float(np.median(seconds[name])),
            "p99_ms": 1e3 * float(np.quantile(seconds[name], 0.99)),
            "speed_up": float(np.median(ratio)),
            "speed_up_low": float(np.quantile(ratio, 0.25)),
            "speed_up_high": float(np.quantile(ratio, 0.75)),
        }
        if name != "lexical":
            cosine = (np.array(embedded[name]) * full).sum(axis=1)
            row |= {"cosine_mean": float(cosine.mean()), "cosine_least": float(cosine.min())}
        rows[name] = row
    return rows


def padding(queries: Sequence[str], batch: int = 32) -> dict[str, float]:
    """ms a text of int8 MiniLM: alone; in padded batches as they come; in batches sorted by length."""
    from proteus_router.encoders.onnx import MiniLMEncoder

    encoder = MiniLMEncoder("int8", threads=1)
    tokens = [encoding.ids for encoding in encoder._tokenizer.encode_batch(list(queries))]

    def run(chunks: Sequence[Sequence[list[int]]]) -> float:
        started = time.perf_counter()
        for chunk in chunks:
            ids = np.zeros((len(chunk), max(map(len, chunk))), dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, text in enumerate(chunk):
                ids[row, : len(text)] = text
                mask[row, : len(text)] = 1
            encoder._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return 1e3 * (time.perf_counter() - started) / len(tokens)

    by_length = sorted(tokens, key=len)
    forms = {
        "alone": [[text] for text in tokens],
        "padded": [tokens[start : start + batch] for start in range(0, len(tokens), batch)],
        "sorted": [by_length[start : start + batch] for start in range(0, len(tokens), batch)],
    }
    best = {name: run(chunks) for name, chunks in forms.items()}
    for name, chunks in forms.items():  # the better of two, against a machine that is busy now and then
        best[name] = min(best[name], run(chunks))
    return {**best, "median_tokens": float(np.median([len(text) for text in tokens]))}


def show(report: dict[str, Any]) -> None:
    print(
        f"commit {report['commit']}, {report['machine']} (load {report['load_average']:.1f}), one thread, "
        f"n = {report['queries']} queries, seed {report['seed']}, median {report['padding']['median_tokens']:.0f} tokens\n"
    )
    print(
        "| encoder | p50 ms | p99 ms | times as fast as minilm-fp32: median (quartiles) | cosine with fp32: mean, least |"
    )
    print("|---|---|---|---|---|")
    for name, row in report["encoders"].items():
        cosine = f"{row['cosine_mean']:.4f}, {row['cosine_least']:.4f}" if "cosine_mean" in row else "-"
        print(
            f"| {name} | {row['p50_ms']:.2f} | {row['p99_ms']:.1f} | {row['speed_up']:.2f} "
            f"({row['speed_up_low']:.2f}-{row['speed_up_high']:.2f}) | {cosine} |"
        )
    pad = report["padding"]
    print(
        f"\nint8, ms a text: alone {pad['alone']:.1f}, padded {pad['padded']:.1f}, sorted {pad['sorted']:.1f}"
    )
    print(f"build {report['build_s']:.1f} s, load {report['load_s']:.2f} s")


if __name__ == "__main__":
    main()
