"""The files of one training run beside the router folder, and how they come and go.

``ROUTER.partial/`` holds finished stages and the unfinished artifact; ``ROUTER.train.jsonl`` the training log.
A kill leaves both for ``--resume``; success removes the first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from proteus_router._version import __version__
from proteus_router.config import TrainConfig
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.encoders.base import Encoder
from proteus_router.errors import ConfigError
from proteus_router.routing.artifact import publish_folder, write_artifact
from proteus_router.training.pipeline import train_router
from proteus_router.training.stages import FolderStages
from proteus_router.training.train_log import TrainLog
from proteus_router.types import ProgressFn

__all__ = ["beside", "refuse_to_overwrite", "train_to_folder"]


def beside(router: Path, suffix: str) -> Path:
    """``ROUTER`` + suffix, in the same folder."""
    return router.with_name(router.name + suffix)


def refuse_to_overwrite(router: Path, *, force: bool) -> None:
    """Raise `ConfigError` where something stands at ``router`` and ``force`` is off, or it is no router."""
    if not router.exists():
        return
    if router.is_dir() and not any(router.iterdir()):
        return
    if not (router / "manifest.json").exists():
        raise ConfigError(f"{router} exists and is not a router folder.", hint="Choose another place for -o.")
    if not force:
        raise ConfigError(
            f"{router} exists.", hint="Pass --force to replace it, or choose another place for -o."
        )


def train_to_folder(
    table: OutcomeTable,
    router: Path,
    *,
    config: TrainConfig,
    resume: bool,
    force: bool,
    progress: ProgressFn,
) -> None:
    """Train on `table` and put the artifact at `router`, whole or not at all.

    Raises
    ------
    ConfigError
        `router` exists and `force` is off; or `resume` finds a run of other data or settings.
    """
    refuse_to_overwrite(router, force=force)
    encoder = _encoder(config.encoder)
    partial = beside(router, ".partial")
    identity = {
        "version": __version__,
        "data": table.fingerprint(),
        "encoder": None if encoder is None else encoder.fingerprint,
        "config": config.model_dump(mode="json"),
    }
    _recover_previous(partial / "previous", router)
    _open_partial(partial, identity, resume=resume)
    with TrainLog(beside(router, ".train.jsonl")) as log:
        artifact = train_router(
            table,
            config=config,
            encoder=encoder,
            stages=FolderStages(partial / "stages"),
            log=log,
            progress=progress,
        )
    write_artifact(partial / "artifact", artifact)
    if router.is_dir() and not any(router.iterdir()):
        router.rmdir()
    publish_folder(partial / "artifact", router, discard=partial / "previous")
    shutil.rmtree(partial)


def _recover_previous(previous: Path, router: Path) -> None:
    """Outside Linux a kill between two renames leaves the old router here; put it back before the run goes on."""
    if previous.exists() and not router.exists():
        os.rename(previous, router)


def _encoder(name: str) -> Encoder | None:
    """The dense view beside the lexical one; None for lexical alone, which training fits itself."""
    if name == "lexical":
        return None
    from proteus_router.encoders import load_encoder

    return load_encoder(name)


def _open_partial(partial: Path, identity: Mapping[str, object], *, resume: bool) -> None:
    described = partial / "run.json"
    if partial.exists() and resume and described.exists():
        try:
            known = json.loads(described.read_text(encoding="utf-8"))
        except ValueError:
            known = None
        if known != json.loads(json.dumps(dict(identity))):
            raise ConfigError(
                f"{partial} belongs to a run with other data or settings.",
                hint="Repeat that run's options, or leave --resume out to start afresh.",
            )
        return
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    unfinished = described.with_suffix(".tmp")
    unfinished.write_text(json.dumps(dict(identity)), encoding="utf-8")
    os.replace(unfinished, described)
