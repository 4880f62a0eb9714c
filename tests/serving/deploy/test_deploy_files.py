"""The files of deploy/ against the package they deploy: what can be said of them without a container engine."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from proteus_router.serving.settings import load_configuration
from tests.serving.gateways import UPSTREAM_KEY, Site, call, chat

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = (DEPLOY / "proteus-gateway.service").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def _uninstalled() -> list[str]:
    found = re.search(r"pip uninstall --yes((?:[ \\\n]+[a-z][a-z-]*)+)", DOCKERFILE)
    assert found
    return found[1].replace("\\", " ").split()


def test_the_image_installs_extras_that_exist_and_no_torch() -> None:
    found = re.search(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert found
    extras = found[1].split(",")
    known = _project()["optional-dependencies"]
    assert {"serve", "postgres"} <= set(extras) <= set(known)
    wanted = [*_project()["dependencies"], *(item for extra in extras for item in known[extra])]
    assert not [item for item in wanted if re.match(r"(torch|transformers|onnx|openai)\b", item)]


def test_the_build_context_holds_what_the_dockerfile_copies() -> None:
    let_in = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for name in line.split()
    }
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_nobody_special_and_asks_readyz() -> None:
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)$", last_stage, re.MULTILINE) == ["10001"]
    found = re.search(r"HEALTHCHECK.*\\\n +CMD (.+)$", last_stage, re.MULTILINE)
    assert found
    command = json.loads(found[1])
    assert command[:2] == ["python", "-c"]
    assert "/readyz" in command[2]


def test_the_health_check_passes_on_a_ready_gateway_and_fails_on_none(site: Site) -> None:
    found = re.search(r"HEALTHCHECK.*\\\n +CMD (.+)$", DOCKERFILE, re.MULTILINE)
    assert found
    code = json.loads(found[1])[2]
    with site.in_thread() as address:
        here = code.replace("http://127.0.0.1:8080", address)
        assert here != code
        assert subprocess.run([sys.executable, "-c", here], check=False).returncode == 0
    assert subprocess.run([sys.executable, "-c", here], check=False, capture_output=True).returncode == 1


def test_a_gateway_needs_nothing_that_the_image_leaves_out(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = {name.lower() for name in _uninstalled()}
    modules = [
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if left_out & {owner.lower() for owner in owners}
    ]
    assert {"scipy", "sklearn", "pyarrow", "matplotlib", "PIL"} <= set(modules)
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    # An entry of None makes `import` raise ModuleNotFoundError.
    (blocker / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({modules!r}))\n", encoding="utf-8"
    )
    source = str(ROOT / "src")
    monkeypatch.setenv("PYTHONPATH", f"{blocker}:{source}")
    monkeypatch.setenv("UPSTREAM_KEY", UPSTREAM_KEY)
    config = str(site.write())
    proteus = [sys.executable, "-m", "proteus_router"]
    refused = subprocess.run(
        [sys.executable, "-c", "import scipy"], capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError" in refused.stderr
    checked = [*proteus, "config", "check", config, "--router", str(site.router)]
    assert subprocess.run(checked, capture_output=True, check=False).returncode in (0, 7)
    made = subprocess.run(
        [*proteus, "keys", "create", "team", "--config", config], capture_output=True, text=True, check=True
    )
    headers = {"authorization": f"Bearer {made.stdout.strip()}"}
    with site.in_process() as gateway:
        address = gateway.address
        assert call(address, "GET", "/readyz").status == 200
        assert chat(address, site.questions[0], headers=headers).status == 200


def test_compose_waits_for_the_database_and_opens_no_port_to_the_world() -> None:
    gateway, database = COMPOSE["services"]["gateway"], COMPOSE["services"]["db"]
    assert (DEPLOY / gateway["build"]["context"]).resolve() == ROOT
    assert (ROOT / gateway["build"]["dockerfile"]).is_file()
    assert gateway["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert "pg_isready" in " ".join(database["healthcheck"]["test"])
    assert all(port.startswith("127.0.0.1:") for port in gateway["ports"])
    assert "ports" not in database
    assert set(COMPOSE["volumes"]) == {volume.partition(":")[0] for volume in database["volumes"]}
    user, name = database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"]
    url = gateway["environment"]["PROTEUS__STORE__URL"]
    assert re.fullmatch(rf"postgresql://{user}:\$\{{POSTGRES_PASSWORD:\?.+\}}@db:5432/{name}", url)
    mounted = {volume.split(":")[1] for volume in gateway["volumes"]}
    arguments = re.search(r"^CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    assert arguments
    assert mounted == {item for item in json.loads(arguments[1]) if item.startswith("/")}


def test_the_environment_of_the_deployment_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-3f9a27c1e8")
    monkeypatch.setenv("PROTEUS__STORE__URL", "postgresql://proteus:5f0c9@db:5432/proteus")
    monkeypatch.setenv("PROTEUS__SERVER__HOST", "0.0.0.0")
    settings = load_configuration(DEPLOY / "proteus.yaml").settings
    assert settings.store.url == "postgresql://proteus:5f0c9@db:5432/proteus"
    assert settings.server.host == "0.0.0.0"
    grace = settings.server.shutdown_grace_s
    stop_after = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert stop_after
    assert grace < int(stop_after[1])
    assert grace < float(COMPOSE["services"]["gateway"]["stop_grace_period"].removesuffix("s"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "proteus-gateway.service"
    unit.write_text(UNIT.replace("/opt/proteus/bin/proteus", "/bin/true"), encoding="utf-8")  # it must exist
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, str(unit) in verified.stderr) == (0, False), verified.stderr
