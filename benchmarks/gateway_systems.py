"""What `benchmarks/gateway.py` measures, each in a process of its own on loopback.

The provider (`proteus provider`) answers for all. In front of it: nothing, the bare pass-through, the gateway as it
ships (lexical encoder, a key, every decision recorded in SQLite, metrics and the request log on), LiteLLM's proxy
with the same pool and a master key. LiteLLM lives in a virtual environment that is made here.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Questions", "System", "cpu_seconds", "litellm_version", "rss_mib", "run_systems"]

_START_S = 180.0
_MASTER_KEY = "sk-benchmark-master"
_QUESTIONS = (300, 2)  # of sample 2 of the world: the router was trained on sample 1
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class System:
    """One thing to ask, and how it wants to be asked.

    Attributes
    ----------
    routes
        Takes ``proteus/standard`` for a model; the others are told the model that the gateway would choose.
    """

    name: str
    address: str
    pid: int
    headers: Mapping[str, str] = field(default_factory=dict)
    routes: bool = False


@dataclass(frozen=True)
class Questions:
    """What is asked: texts, and the model the gateway chooses for each."""

    texts: tuple[str, ...]
    models: tuple[str, ...]

    def bodies(self, system: System, *, stream: bool) -> list[dict[str, Any]]:
        """One request for each question; answers are equally long whoever is asked."""
        return [
            {
                "model": "proteus/standard" if system.routes else model,
                "messages": [{"role": "user", "content": text}],
                **({"stream": True} if stream else {}),
            }
            for text, model in zip(self.texts, self.models, strict=True)
        ]


@contextmanager
def run_systems(
    folder: Path, wanted: Sequence[str], *, order: str | None = None, litellm: str | None = None
) -> Iterator[tuple[list[System], Questions]]:
    """Start the provider, the gateway and whatever else is `wanted`; stop them all at the end.

    Parameters
    ----------
    folder
        For configurations, logs, the store and LiteLLM's virtual environment.
    order
        What the provider shall do to every request, such as ``{"gap_s": 0.2}``.
    litellm
        Version to install; None: the newest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        start = _Starter(folder, stack)
        port = _free_port()
        provider = start.proteus(
            "provider",
            "provider",
            "--port",
            f"{port}",
            "--sample",
            f"{_QUESTIONS[0]}:{_QUESTIONS[1]}",
            *(["--order", order] if order else []),
        )
        upstream = f"http://127.0.0.1:{port}"
        start.wait_for(f"{upstream}/v1/models", provider)
        pool = _pool(folder, port)
        ours = _gateway(start, folder, pool)
        systems = {"direct": System("direct", upstream, provider.pid), "proteus": ours}
        if "pass-through" in wanted:
            systems["pass-through"] = _passthrough(start, upstream)
        if "litellm" in wanted:
            systems["litellm"] = _litellm(start, folder, pool, litellm)
        yield [systems[name] for name in wanted], _questions(upstream, ours)


def rss_mib(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, of user and system (Linux)."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def litellm_version(folder: Path) -> str:
    """Version in the virtual environment under `folder`."""
    code = "from importlib.metadata import version; print(version('litellm'))"
    python = str(_venv(folder) / "bin" / "python")
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


class _Starter:
    """Starts processes whose output goes to a file each, and ends them with the stack."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack

    def proteus(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self.process(name, [sys.executable, "-m", "proteus_router", *arguments])

    def process(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=self._folder, env={**os.environ, **(environment or {})}
        )
        self._stack.callback(_stop, process)
        return process

    def wait_for(self, url: str, process: subprocess.Popen[bytes]) -> None:
        """Until `url` answers 200."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"it ended with {process.returncode}: see the logs in {self._folder}")
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        raise RuntimeError(f"nothing at {url} after {_START_S:g} s: see the logs in {self._folder}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _pool(folder: Path, port: int) -> list[dict[str, Any]]:
    """The model list that `proteus provider` writes for its own models."""
    path = folder / "pool.yaml"
    command = [sys.executable, "-m", "proteus_router", "provider", "--port", f"{port}"]
    subprocess.run([*command, "--write-config", str(path)], check=True, capture_output=True)
    pool: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["model_list"]
    return pool


def _gateway(start: _Starter, folder: Path, pool: list[dict[str, Any]]) -> System:
    from proteus_router.cli.gateway_demo import demo_router, demo_router_folder
    from proteus_router.data.synthetic import make_world

    port, database, config = _free_port(), folder / "gateway.db", folder / "gateway.yaml"
    for old in folder.glob("gateway.db*"):
        old.unlink()
    values = {
        "server": {"port": port},
        "store": {"url": f"sqlite:///{database.resolve()}"},
        "tiers": {"standard": {"accuracy_target": 0.80}},
        "model_list": pool,
    }
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    made = subprocess.run(
        [sys.executable, "-m", "proteus_router", "keys", "create", "load", "--config", str(config)],
        check=True,
        capture_output=True,
        text=True,
    )
    world = make_world(0)
    demo_router(world)  # trained where it is not there yet
    router = str(demo_router_folder(world))
    process = start.proteus("gateway", "serve", router, "--config", str(config.resolve()))
    address = f"http://127.0.0.1:{port}"
    start.wait_for(f"{address}/readyz", process)
    key = {"authorization": f"Bearer {made.stdout.strip()}"}
    return System("proteus", address, process.pid, key, routes=True)


def _passthrough(start: _Starter, upstream: str) -> System:
    port = _free_port()
    script = str(_HERE / "gateway_passthrough.py")
    process = start.process(
        "pass-through", [sys.executable, script, "--upstream", upstream, "--port", f"{port}"]
    )
    _wait_for_port(port)
    return System("pass-through", f"http://127.0.0.1:{port}", process.pid)


def _litellm(start: _Starter, folder: Path, pool: list[dict[str, Any]], version: str | None) -> System:
    environment = _venv(folder)
    if not (environment / "bin" / "litellm").exists():
        wanted = "litellm[proxy]" + (f"=={version}" if version else "")
        print(f"installing {wanted} into {environment} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run(
            [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", wanted], check=True
        )
    config, port = folder / "litellm.yaml", _free_port()
    # The same pool; what only we understand is left out.
    models = [
        {"model_name": entry["model_name"], "litellm_params": entry["litellm_params"]} for entry in pool
    ]
    values = {"model_list": models, "general_settings": {"master_key": _MASTER_KEY}}
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    process = start.process(
        "litellm",
        [
            str(environment / "bin" / "litellm"),
            *("--config", str(config.resolve()), "--host", "127.0.0.1"),
            *("--port", f"{port}", "--num_workers", "1"),
        ],
        # As its own guide for production says; and nothing is fetched while it starts.
        {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    address = f"http://127.0.0.1:{port}"
    start.wait_for(f"{address}/health/liveliness", process)
    return System("litellm", address, process.pid, {"authorization": f"Bearer {_MASTER_KEY}"})


def _venv(folder: Path) -> Path:
    return folder.resolve() / "litellm-venv"


def _questions(upstream: str, ours: System) -> Questions:
    """Questions whose answers the provider knows, and what the gateway makes of each."""
    with urllib.request.urlopen(f"{upstream}/prompts?n={_QUESTIONS[0]}", timeout=30) as answer:
        texts = tuple(prompt["query"] for prompt in json.load(answer)["prompts"])
    return Questions(texts, tuple(_chosen(ours, text) for text in texts))


def _chosen(ours: System, text: str) -> str:
    body = {"model": "proteus/standard", "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(
        f"{ours.address}/v1/route",
        json.dumps(body).encode(),
        {"content-type": "application/json", **ours.headers},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["model"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on port {port}")
