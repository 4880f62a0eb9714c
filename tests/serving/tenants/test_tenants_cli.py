"""`proteus keys` and `proteus store`: what they print, store and refuse."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proteus_router.cli import cli, main
from proteus_router.errors import InvalidKeyError, ProteusError
from proteus_router.serving.records import ApiKey
from proteus_router.serving.tenants import Keyring
from tests.serving.store.helpers import opened

CONFIG = """
model_list:
  - model_name: small
    litellm_params: {model: openai/small, api_base: "http://127.0.0.1:9/v1", api_key: none}
    model_info: {input_cost_per_token: 1.0e-7, output_cost_per_token: 4.0e-7}
tiers:
  standard: {accuracy_target: 0.8}
store: {url: "STORE"}
"""


def run(*arguments: str | Path | float) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments: str | Path | float) -> Result:
    result = run(*arguments)
    assert result.exception is None, (result.output, result.exception)
    return result


def authenticated(url: str, token: str) -> ApiKey:
    async def main() -> ApiKey:
        async with opened(url) as store:
            ring = Keyring(store)
            await ring.refresh()
            return ring.authenticate(token)

    return asyncio.run(main())


@pytest.fixture
def config(tmp_path: Path, sqlite_url: str) -> Path:
    path = tmp_path / "proteus.yaml"
    path.write_text(CONFIG.replace("STORE", sqlite_url), encoding="utf-8")
    return path


def test_a_key_is_made_used_listed_and_revoked(config: Path, sqlite_url: str) -> None:
    made = done(
        "keys", "create", "search team", "--config", config, "--tier", "standard", "--allow-tier", "standard",
        "--allow-model", "small", "--target-range", "0.7:0.9", "--requests-per-minute", 600,
        "--tokens-per-minute", 90_000, "--budget-usd", 2.5, "--budget-period", "month",
    )  # fmt: skip
    token = made.stdout.strip()
    key = authenticated(sqlite_url, token)
    assert (key.name, key.tier, key.tiers, key.models, key.target_range) == (
        "search team", "standard", ("standard",), ("small",), (0.7, 0.9),
    )  # fmt: skip
    assert (key.requests_per_minute, key.tokens_per_minute, key.budget_usd, key.budget_period) == (
        600, 90_000, 2.5, "month",
    )  # fmt: skip
    assert key.id in made.stderr
    listed = done("keys", "list", "--store", sqlite_url).stdout
    assert f"{key.id}  search team" in listed
    assert (
        "active; tier standard; tiers standard; models small; targets 0.7 to 0.9; 600 requests/min" in listed
    )
    assert token not in listed + made.stderr
    done("keys", "revoke", key.id, "--config", config)
    (shown,) = json.loads(done("keys", "list", "--config", config, "--json").stdout)
    assert shown["revoked_at"] is not None
    assert "token" not in " ".join(name for name in shown if "minute" not in name)


def test_an_admin_key_as_json(sqlite_url: str) -> None:
    made = json.loads(done("keys", "create", "ops", "--admin", "--store", sqlite_url, "--json").stdout)
    assert made["admin"] is True
    assert authenticated(sqlite_url, made["token"]).id == made["id"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tier", "gold"), "there are standard"),
        (("--allow-tier", "gold"), "there are standard"),
        (("--allow-model", "huge"), "there are small"),
        (("--budget-usd", "5"), "budget_period"),
        (("--requests-per-minute", "0"), "requests_per_minute is 0"),
    ],
)
def test_a_key_that_cannot_be_is_refused(config: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("keys", "create", "x", "--config", config, *arguments)
    assert isinstance(result.exception, InvalidKeyError)
    assert message in str(result.exception)
    assert "no keys" in done("keys", "list", "--config", config).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "list"),
        ("keys", "list", "--store", "sqlite:///x.db", "--config", "y"),
        ("keys", "create", "x", "--store", "sqlite:///x.db", "--target-range", "high"),
    ],
)
def test_wrong_usage_says_so(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("keys", "revoke", "key_none", "--store", "sqlite:///{folder}/a.db"), 12),
        (("keys", "create", " ", "--store", "sqlite:///{folder}/a.db"), 13),
        (("keys", "list", "--store", "sqlite:///{folder}/missing/a.db"), 12),
        (("keys", "list", "--store", "mysql://127.0.0.1/a"), 2),
    ],
)
def test_exit_codes(
    arguments: tuple[str, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([argument.format(folder=tmp_path) for argument in arguments])
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith("proteus: ")


def test_migrate_says_from_where_to_where(url: str) -> None:
    first = done("store", "migrate", "--store", url).stdout
    version = re.search(r": version (\d{4}), was an empty database\.\n$", first)
    assert version is not None, first
    again = done("store", "migrate", "--store", url).stdout
    assert again.endswith(f": version {version[1]}.\n")


def test_a_password_is_never_printed(tmp_path: Path) -> None:
    for command in (("store", "migrate"), ("keys", "list")):
        result = run(*command, "--store", "postgresql://proteus:PLANTED@127.0.0.1:1/gone")
        assert isinstance(result.exception, ProteusError)
        assert "PLANTED" not in f"{result.output} {result.exception}"
