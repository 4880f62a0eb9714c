"""Any Hugging Face text encoder in torch, frozen or fine-tuned; the paper's is DeBERTa-v3-small."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proteus_router.data.grouping import normalise_text
from proteus_router.encoders.transformer_files import (
    Pooling,
    TransformerParts,
    load_parts,
    require_torch,
    save_parts,
)
from proteus_router.errors import EncoderError
from proteus_router.types import BoolArray, FloatArray

__all__ = ["TransformerEncoder", "text_digests", "z_of"]

_BATCH_SIZE = 16


class TransformerEncoder:
    """Text -> (n, dim) float32: the pooled hidden state, or after fine-tuning the 256 values of z.

    Parameters
    ----------
    name_or_folder
        A folder (config.json, model.safetensors, tokenizer), or a hub name that is on this machine.
    pooling
        ``mean`` over real tokens or ``cls``; None: as saved in the folder, else ``mean``.
    max_tokens
        Longer texts are cut; None: as saved in the folder, else 256.
    cache_dir
        Where `fetch_transformer` put hub models; `cache_root()` if None.
    device
        A torch device, e.g. ``cpu`` or ``cuda``.

    Raises
    ------
    EncoderError
        Missing extra; no such model here (nothing is downloaded); no safetensors; changed files.
    """

    def __init__(
        self,
        name_or_folder: str | Path,
        pooling: Pooling | None = None,
        max_tokens: int | None = None,
        *,
        cache_dir: Path | None = None,
        device: str = "cpu",
    ) -> None:
        name = str(name_or_folder)
        parts = load_parts(name, pooling=pooling, max_tokens=max_tokens, cache_dir=cache_dir)
        self._set(name, parts, device)

    @classmethod
    def from_parts(cls, name: str, parts: TransformerParts, *, device: str = "cpu") -> TransformerEncoder:
        """An encoder from what is in memory already."""
        encoder = cls.__new__(cls)
        encoder._set(name, parts, device)
        return encoder

    def _set(self, name: str, parts: TransformerParts, device: str) -> None:
        self.name = name
        self.parts = parts
        self.device = device
        for module in (parts.model, parts.projection, parts.scorer):
            if module is not None:
                module.to(device).eval()

    @property
    def dim(self) -> int:
        return self.parts.dim

    @cached_property
    def fingerprint(self) -> str:
        return self.parts.fingerprint()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, rows in the order of `texts`."""
        return self._forward(texts, scores=False)

    def predict_scores(self, texts: Sequence[str]) -> FloatArray:
        """(n, n_models) in [0, 1]: what the fine-tuned score layer says.

        Raises
        ------
        EncoderError
            The encoder was not fine-tuned.
        """
        if self.parts.scorer is None:
            raise EncoderError(
                f"{self.name}: not fine-tuned, so it predicts no scores.", hint="Use fine_tune."
            )
        return self._forward(texts, scores=True).astype(np.float64)

    def seen_in_fine_tuning(self, texts: Sequence[str]) -> BoolArray:
        """(n,) True where the encoder was tuned on this very text (equal after normalisation).

        Scores of such rows have entered z: they cannot be evidence for a certificate.
        """
        known = set() if self.parts.trained_on is None else {row.tobytes() for row in self.parts.trained_on}
        return np.array([row.tobytes() in known for row in text_digests(texts)], dtype=np.bool_)

    def save(self, folder: Path) -> None:
        """Write a folder that `TransformerEncoder` reads back with the same fingerprint (safetensors)."""
        save_parts(self.parts, folder)

    def _forward(self, texts: Sequence[str], *, scores: bool) -> NDArray[np.float32]:
        torch, _ = require_torch()
        parts = self.parts
        width = parts.scorer.out_features if scores else parts.dim
        out = np.empty((len(texts), width), dtype=np.float32)
        # Neighbours of like length share a batch: padding costs as much as words.
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(order), _BATCH_SIZE):
            rows = order[start : start + _BATCH_SIZE]
            with torch.inference_mode():
                values = z_of(parts, [texts[row] for row in rows], self.device)
                if scores:
                    values = torch.sigmoid(parts.scorer(values))
            out[rows] = values.float().cpu().numpy()
        return out


def z_of(parts: TransformerParts, texts: list[str], device: str) -> Any:
    """(batch, dim) tensor of one batch, with gradients where torch records them."""
    valid = [
        text.encode("utf-8", "replace").decode("utf-8") for text in texts
    ]  # lone surrogates have no UTF-8
    tokens = parts.tokenizer(
        valid, padding=True, truncation=True, max_length=parts.max_tokens, return_tensors="pt"
    ).to(device)
    hidden = parts.model(**tokens).last_hidden_state  # (batch, tokens, hidden)
    if parts.pooling == "cls":
        pooled = hidden[:, 0]
    else:
        mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
    return pooled if parts.projection is None else parts.projection(pooled)


def text_digests(texts: Sequence[str]) -> NDArray[np.uint8]:
    """(n, 32): sha256 of each normalised text."""
    digests = (
        hashlib.sha256(normalise_text(text).encode("utf-8", "surrogatepass")).digest() for text in texts
    )
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(texts), 32)
