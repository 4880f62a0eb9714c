"""What is broken when the gateway is told to read it anew is refused, and no request notices."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.gateways import Site, bearer, call, chat


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _arrays(site: Site) -> Path:
    """The largest file of the router: its numbers."""
    return max(
        (path for path in site.router.iterdir() if path.is_file()), key=lambda path: path.stat().st_size
    )


BREAKS: dict[str, Callable[[Site], object]] = {
    "no YAML": lambda site: site.config_file.write_text("tiers: [", encoding="utf-8"),
    "empty": lambda site: site.config_file.write_text("", encoding="utf-8"),
    "not UTF-8": lambda site: site.config_file.write_bytes(b"\xff\xfe\x00"),
    "unknown key": lambda site: site.config_file.write_text("tires: {}\n", encoding="utf-8"),
    "gone": lambda site: site.config_file.unlink(),
    "a variable that is not set": lambda site: site.config_file.write_text(
        site.config_file.read_text("utf-8").replace("UPSTREAM_KEY", "NO_SUCH_VARIABLE"), encoding="utf-8"
    ),
    "a model the router does not know": lambda site: site.config_file.write_text(
        site.config_file.read_text("utf-8").replace("proteus_model: ", "proteus_model: other-"),
        encoding="utf-8",
    ),
    "a placeholder for a secret": lambda site: site.config_file.write_text(
        site.config_file.read_text("utf-8").replace("os.environ/UPSTREAM_KEY", "changeme"), encoding="utf-8"
    ),
    "router gone": lambda site: shutil.rmtree(site.router),
    "router's manifest gone": lambda site: (site.router / "manifest.json").unlink(),
    "router's manifest cut": lambda site: _cut(site.router / "manifest.json"),
    "router's numbers cut": lambda site: _cut(_arrays(site)),
    "router's numbers flipped": lambda site: _flip(_arrays(site)),
}


def test_whatever_is_broken_at_a_reload_the_old_goes_on(site: Site) -> None:
    whole = site.folder / "whole-router"
    shutil.copytree(site.router, whole)
    site.router = site.folder / "router"
    shutil.copytree(whole, site.router)
    _, admin = site.make_key("root", admin=True)
    _, tenant = site.make_key()
    statuses: list[int] = []
    stop = threading.Event()
    with site.in_thread() as address:

        def keep_asking() -> None:
            while not stop.is_set():
                statuses.append(chat(address, site.questions[0], headers=bearer(tenant)).status)

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            before = call(address, "GET", "/readyz").json()
            for name, break_it in BREAKS.items():
                site.write()
                shutil.rmtree(site.router, ignore_errors=True)
                shutil.copytree(whole, site.router)
                break_it(site)
                refused = call(address, "POST", "/v1/admin/reload", {}, headers=bearer(admin))
                assert refused.status == 422, name
                assert refused.json()["error"]["message"], name
                assert call(address, "GET", "/readyz").json() == before, name
            shutil.rmtree(site.router, ignore_errors=True)
            shutil.copytree(whole, site.router)
            site.changes = {"tiers": {"gold": {"accuracy_target": 0.5}}, "default_tier": "gold"}
            site.write()
            mended = call(address, "POST", "/v1/admin/reload", {}, headers=bearer(admin))
            assert (mended.status, mended.json()["generation"]) == (200, 2)
            answer = chat(address, site.questions[0], model="proteus/gold", headers=bearer(tenant))
            assert answer.status == 200
            refusals = call(address, "GET", "/metrics").body.decode()
            assert f'proteus_reloads_total{{result="refused"}} {len(BREAKS)}.0' in refusals
        finally:
            stop.set()
            asking.join(30)
    assert set(statuses) == {200}
    assert len(statuses) > len(BREAKS)


@pytest.mark.parametrize("what", ["tenant", "nobody"])
def test_only_an_admin_may_ask_for_a_reload(what: str, site: Site) -> None:
    site.make_key("root", admin=True)
    headers = bearer(site.make_key()[1]) if what == "tenant" else {}
    with site.in_thread() as address:
        status = call(address, "POST", "/v1/admin/reload", {}, headers=headers).status
        assert status == (403 if what == "tenant" else 401)
        assert call(address, "GET", "/readyz").json()["generation"] == 1
