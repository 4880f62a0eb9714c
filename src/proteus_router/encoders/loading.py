"""From a name, as typed by a user or kept in an artifact, to an encoder."""

from __future__ import annotations

import difflib
from pathlib import Path

from proteus_router.encoders.base import Encoder
from proteus_router.errors import EncoderError

__all__ = ["LOADABLE", "load_encoder"]

LOADABLE = ("minilm", "minilm-fp32")
_KNOWN = ("lexical", *LOADABLE)


def load_encoder(
    name: str, *, cache_dir: Path | None = None, expected_fingerprint: str | None = None
) -> Encoder:
    """The encoder of that name; nothing is downloaded.

    Parameters
    ----------
    name
        ``minilm`` (int8), ``minilm-fp32``, or a Hugging Face name (``owner/model``) or folder (torch).
    cache_dir
        Where ``minilm`` is built and hub models are kept; `cache_root()` if None.
    expected_fingerprint
        The fingerprint an artifact was trained with.

    Raises
    ------
    EncoderError
        Unknown name (the nearest is named), missing extra or weights, changed files, or a fingerprint other
        than the expected one.

    Examples
    --------
    >>> load_encoder("minilm").encode(["What is 2 + 2?"]).shape    # doctest: +SKIP
    (1, 384)
    """
    encoder = _load(name, cache_dir)
    if expected_fingerprint is not None and encoder.fingerprint != expected_fingerprint:
        raise EncoderError(
            f"encoder {name!r} is other than the artifact's: fingerprint {encoder.fingerprint[:16]}..., "
            f"the artifact was trained with {expected_fingerprint[:16]}...",
            hint="Bring back the weights and release it was trained with, or train again.",
        )
    return encoder


def _load(name: str, cache_dir: Path | None) -> Encoder:
    if name == "lexical":
        raise EncoderError(
            "encoder 'lexical' is not loaded by name: training fits it and the artifact carries it.",
            hint="Use proteus train --encoder lexical, or Router.load.",
        )
    if name in LOADABLE:
        from proteus_router.encoders.onnx import MiniLMEncoder

        return MiniLMEncoder("int8" if name == "minilm" else "fp32", cache_dir=cache_dir)
    if "/" not in name and not Path(name).expanduser().is_dir():
        near = difflib.get_close_matches(name.lower(), _KNOWN, n=1)
        raise EncoderError(
            f"unknown encoder {name!r}: none of {', '.join(_KNOWN)}, no owner/model name, no folder here.",
            hint=f"Did you mean {near[0]!r}?" if near else "See: proteus encoder list",
        )
    from proteus_router.encoders.transformer import TransformerEncoder

    return TransformerEncoder(name, cache_dir=cache_dir)
