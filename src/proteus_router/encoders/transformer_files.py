"""A transformer encoder on disk: a Hugging Face folder, safetensors only, plus our head where there is one.

``proteus_encoder.json`` beside the model says how tokens become one vector; ``proteus_head.safetensors``
holds the fine-tuned projection, the score layer, and the hashes of the texts it was tuned on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from proteus_router.encoders.cache import cache_root
from proteus_router.errors import EncoderError

__all__ = [
    "FETCH_COMMAND",
    "INSTALL_COMMAND",
    "Pooling",
    "TransformerParts",
    "fetch_transformer",
    "load_parts",
    "make_head",
    "require_torch",
    "save_parts",
]

INSTALL_COMMAND = "pip install 'proteus-router[torch]'"
FETCH_COMMAND = "proteus encoder build"
Pooling = Literal["mean", "cls"]

_SETTINGS, _HEAD = "proteus_encoder.json", "proteus_head.safetensors"
_FORMAT = 1
_VERSION = 1  # raise it when the same weights and text could come out differently


@dataclass(frozen=True)
class TransformerParts:
    """What an encoder is made of; torch objects are untyped here because torch is an optional extra.

    Attributes
    ----------
    model, tokenizer
        A `transformers` base model in float32 and its fast tokenizer.
    pooling
        ``mean`` over real tokens, or ``cls``: the first one.
    max_tokens
        Longer texts are cut.
    projection, scorer
        After fine-tuning: hidden -> z (256), and z -> one logit a model. Else None.
    trained_on
        (n, 32) uint8: sha256 of each normalised text of fine-tuning.
    """

    model: Any
    tokenizer: Any
    pooling: Pooling = "mean"
    max_tokens: int = 256
    projection: Any = None
    scorer: Any = None
    trained_on: NDArray[np.uint8] | None = None

    @property
    def dim(self) -> int:
        last = (
            self.projection[-1].out_features if self.projection is not None else self.model.config.hidden_size
        )
        return int(last)

    def fingerprint(self) -> str:
        """sha256 of the weights that matter, the tokenizer and the settings; the same after save and load."""
        digest = hashlib.sha256(f"transformer {_VERSION} {self.pooling} {self.max_tokens}".encode())
        digest.update(_tokenizer_text(self.tokenizer).encode())
        for part in (self.model, self.projection):
            for name, weight in sorted(part.named_parameters()) if part is not None else ():
                if "pooler." not in name:  # not used here, and initialised at random where a file lacks it
                    array = np.ascontiguousarray(weight.detach().cpu().numpy())
                    digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
                    digest.update(array.data)
        return digest.hexdigest()


def require_torch() -> tuple[Any, Any]:
    """The modules torch and transformers, or an error that names the extra."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise EncoderError(
            f"transformer encoder: {error.name} is not installed.", hint=INSTALL_COMMAND
        ) from error
    return torch, transformers


def _fetched(name: str, cache_dir: Path | None) -> Path:
    root = cache_root() if cache_dir is None else cache_dir
    return root / "encoders" / "transformers" / name.replace("/", "--")


def fetch_transformer(name: str, *, cache_dir: Path | None = None) -> Path:
    """Download a model from the hub into our cache, as safetensors; return the folder.

    Raises
    ------
    EncoderError
        The extra is missing, or the hub cannot be reached or has no such model.
    """
    folder = _fetched(name, cache_dir)
    parts = _from_pretrained(name, "mean", 256, download=True)
    save_parts(parts, folder)
    return folder


def load_parts(
    name_or_folder: str, *, pooling: Pooling | None, max_tokens: int | None, cache_dir: Path | None
) -> TransformerParts:
    """Load from a folder, our cache, or the Hugging Face cache of this machine; nothing is downloaded.

    Raises
    ------
    EncoderError
        Missing extra, nothing there, no safetensors, incomplete or changed weights.
    """
    require_torch()
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        fetched = _fetched(name_or_folder, cache_dir)
        folder = fetched if (fetched / _SETTINGS).is_file() else folder
    settings = _read_settings(folder)
    parts = _from_pretrained(
        str(folder) if folder.is_dir() else name_or_folder,
        pooling or settings.get("pooling", "mean"),
        max_tokens or settings.get("max_tokens", 256),
        download=False,
    )
    if settings.get("head"):
        parts = _with_head(parts, folder)
    # Chosen settings other than the saved ones are a different encoder, with a fingerprint of its own.
    as_saved = pooling in (None, settings.get("pooling")) and max_tokens in (None, settings.get("max_tokens"))
    if settings and as_saved and parts.fingerprint() != settings.get("fingerprint"):
        raise EncoderError(
            f"{folder}: weights or tokenizer differ from what was saved there ({_SETTINGS}).",
            hint="Bring back the files, or fine-tune or fetch again.",
        )
    return parts


def save_parts(parts: TransformerParts, folder: Path) -> None:
    """Write a folder that `load_parts` and `transformers` both read; an existing one is replaced.

    Raises
    ------
    EncoderError
        The folder is there and is no encoder, or cannot be written.
    """
    from safetensors.numpy import save_file

    if folder.exists() and any(folder.iterdir()) and not (folder / _SETTINGS).is_file():
        raise EncoderError(f"{folder} is not empty and holds no encoder.", hint="Choose another folder.")
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    settings = {
        "format": _FORMAT,
        "pooling": parts.pooling,
        "max_tokens": parts.max_tokens,
        "head": parts.projection is not None,
        "fingerprint": parts.fingerprint(),
    }
    try:
        unfinished.mkdir(parents=True)
        with _quiet():
            parts.model.save_pretrained(unfinished)  # safetensors
            parts.tokenizer.save_pretrained(unfinished)
        if parts.projection is not None:
            save_file(_head_arrays(parts), unfinished / _HEAD)
        (unfinished / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(unfinished, folder)
    except OSError as error:
        raise EncoderError(f"{folder} cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _from_pretrained(name: str, pooling: Pooling, max_tokens: int, *, download: bool) -> TransformerParts:
    torch, transformers = require_torch()
    if pooling not in get_args(Pooling):
        raise EncoderError(f"{name}: pooling {pooling!r} is none of {', '.join(get_args(Pooling))}.")
    local = {"local_files_only": not download}
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **local)
            # Never a .bin file: those are pickles.
            model, info = transformers.AutoModel.from_pretrained(
                name, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **local
            )
    except Exception as error:  # OSError, ValueError, ImportError, the client's and safetensors' own
        raise EncoderError(
            f"{name}: cannot be loaded as a transformer encoder ({_reason(name, error, download=download)}).",
            hint=_next_step(name, error, download=download),
        ) from error
    missing = sorted(key for key in info["missing_keys"] if "pooler." not in key)
    if missing:
        raise EncoderError(f"{name}: the weights lack {missing[0]} and {len(missing) - 1} others.")
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise EncoderError(f"{name}: its tokenizer has no fast form (tokenizer.json), which is needed.")
    model.eval()
    return TransformerParts(model, tokenizer, pooling, _fitting(max_tokens, model, tokenizer))


def _reason(name: str, error: Exception, *, download: bool) -> str:
    if isinstance(error, OSError) and not download and not Path(name).is_dir():
        return (
            "it is not on this machine as safetensors"  # the client speaks of a connection we did not ask for
        )
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _next_step(name: str, error: Exception, *, download: bool) -> str:
    folder = Path(name)
    if "sentencepiece" in str(error).lower() and not (
        folder.is_dir() and not (folder / "config.json").is_file()
    ):
        return "Its tokenizer needs one more package: pip install sentencepiece"
    if folder.is_dir():
        return "The folder must hold config.json, model.safetensors and a tokenizer."
    if download:
        return "Check the name and the network, or copy the model to this machine and pass its folder."
    return f"Download it once with {FETCH_COMMAND} {name}, or pass a folder that holds it."


def _fitting(max_tokens: int, model: Any, tokenizer: Any) -> int:
    positions = getattr(model.config, "max_position_embeddings", None) or max_tokens
    return int(max(8, min(max_tokens, positions, tokenizer.model_max_length)))


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / _SETTINGS
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if settings["format"] > _FORMAT:
            raise EncoderError(f"{path} was written by a newer release.", hint="Upgrade proteus-router.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{path} cannot be read ({type(error).__name__}).") from error
    return dict(settings)


def make_head(hidden: int, dim: int, n_models: int) -> tuple[Any, Any]:
    """The paper's head: a 2-layer network hidden -> z (dim), one linear layer z -> logits of all models."""
    torch, _ = require_torch()
    projection = torch.nn.Sequential(torch.nn.Linear(hidden, dim), torch.nn.GELU(), torch.nn.Linear(dim, dim))
    return projection, torch.nn.Linear(dim, n_models)


def _head_arrays(parts: TransformerParts) -> dict[str, NDArray[Any]]:
    arrays = {
        f"{part}.{name}": weight.detach().cpu().numpy()
        for part, module in (("projection", parts.projection), ("scorer", parts.scorer))
        for name, weight in module.named_parameters()
    }
    seen = parts.trained_on if parts.trained_on is not None else np.empty((0, 32), np.uint8)
    return {**arrays, "trained_on": seen}


def _with_head(parts: TransformerParts, folder: Path) -> TransformerParts:
    from safetensors.numpy import load_file

    torch, _ = require_torch()
    try:
        arrays = load_file(folder / _HEAD)
        projection, scorer = make_head(
            parts.model.config.hidden_size, len(arrays["projection.0.bias"]), len(arrays["scorer.bias"])
        )
        for prefix, module in (("projection.", projection), ("scorer.", scorer)):
            state = {
                key.removeprefix(prefix): torch.from_numpy(value)
                for key, value in arrays.items()
                if key.startswith(prefix)
            }
            module.load_state_dict(state)
    except Exception as error:  # safetensors raises its own, OSError, KeyError; torch RuntimeError
        raise EncoderError(
            f"{folder / _HEAD} cannot be read ({type(error).__name__}: {error}).",
            hint="Bring back the file, or fine-tune again.",
        ) from error
    return replace(parts, projection=projection.eval(), scorer=scorer.eval(), trained_on=arrays["trained_on"])


def _tokenizer_text(tokenizer: Any) -> str:
    """The tokenizer as JSON, without the padding and cutting that the last call left in it."""
    from tokenizers import Tokenizer

    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    return str(plain.to_str())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers while one of ours may be drawn."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    level = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if was_on:
            logging.enable_progress_bar()
