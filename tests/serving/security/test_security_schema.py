"""Schemathesis over the OpenAPI document: whatever fits it, and whatever just does not, is answered below 500."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proteus_router.serving.app.factory import openapi_document
from tests.serving.gateways import Site, chat

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("schemathesis") is None,
        reason="not installed: pip install 'proteus-router[clients]'",
    ),
]
COMMAND = str(Path(sys.executable).with_name("schemathesis"))
EXAMPLES = 40
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def _narrowed(decision_id: str) -> dict[str, Any]:
    """The document with names that exist, so that not every request ends as "no such model"."""
    document: dict[str, Any] = json.loads(json.dumps(openapi_document()))
    name = document["components"]["schemas"]["ModelName"]
    del name["minLength"], name["examples"]
    name["enum"] = ["proteus", "proteus/economy", "proteus/standard"]
    feedback = document["components"]["schemas"]["Feedback"]["properties"]
    feedback["decision_id"] = {"type": "string", "enum": [decision_id]}
    (parameter,) = document["paths"]["/v1/decisions/{decision_id}"]["get"]["parameters"]
    parameter["schema"] = {"type": "string", "enum": [decision_id]}
    return document


@pytest.mark.parametrize("who", ["anybody", "admin"])
@pytest.mark.parametrize("narrowed", [False, True], ids=["as published", "with names that exist"])
def test_no_request_makes_the_gateway_fail(narrowed: bool, who: str, site: Site, tmp_path: Path) -> None:
    site.changes = {"auth": {"anonymous": True}}
    headers = []
    if who == "admin":
        headers = ["--header", f"Authorization: Bearer {site.make_key('root', admin=True)[1]}"]
    with site.in_thread() as address:
        target, extra = f"{address}/openapi.json", []
        if narrowed:
            decision_id = chat(address, site.questions[0]).headers["x-proteus-decision-id"]
            document = tmp_path / "openapi.json"
            document.write_text(json.dumps(_narrowed(decision_id)), encoding="utf-8")
            target, extra = str(document), ["--url", address]
        done = subprocess.run(
            [
                *(COMMAND, "run", target, *extra, *headers),
                *("--checks", ",".join(CHECKS)),
                *("--phases", "examples,coverage,fuzzing"),
                *("--max-examples", f"{EXAMPLES}", "--seed", "1", "--continue-on-failure"),
                *("--generation-database", "none", "--no-color"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, _brief(done.stdout)
        assert chat(address, site.questions[0]).status == 200


def _brief(output: str) -> str:
    """The report with its long lines cut: a generated body fills pages."""
    return "\n".join(line[:300] for line in output.splitlines())[-12_000:]
