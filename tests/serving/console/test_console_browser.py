"""The console in a real browser against a gateway that serves: every page, no error, both widths, and a floor that breaks.

Needs Debian's `chromium` and Python's `playwright`. With PROTEUS_SCREENSHOTS=FOLDER the pages are saved there.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.gateways import Site, bearer, call, chat

pytestmark = pytest.mark.slow
PAGES = ("tiers", "traffic", "frontier", "decisions", "keys", "playground")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture
def keys(site: Site) -> tuple[str, str]:
    """An admin's and a tenant's, made before the browser brings its event loop."""
    return site.make_key("operator", admin=True)[1], site.make_key("team")[1]


@pytest.fixture
def browser(keys: tuple[str, str]) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="not installed: pip install playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine: apt install chromium")
    with api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium, args=FLAGS.split())
        yield opened
        opened.close()


def test_every_page_in_both_widths_and_a_floor_that_breaks(
    browser: Any, site: Site, keys: tuple[str, str]
) -> None:
    audits = {"share": 1.0, "window": 400}
    site.changes = {
        "tiers": {
            "economy": {"accuracy_target": 0.45, "audits": audits, "budget": {"usd": 5.0, "period": "day"}},
            "standard": {"accuracy_target": 0.60, "on_infeasible": "best_effort", "max_latency_s": 2.0},
        },
        "control": {"refresh_s": 0.2},
    }
    admin, tenant = keys
    score, stop = [0.9], threading.Event()
    folder = os.environ.get("PROTEUS_SCREENSHOTS")
    with site.in_thread() as address:

        def keep_asking() -> None:
            """Requests, and grades of what was drawn."""
            place = 0
            while not stop.is_set():
                for _ in range(15):
                    tier = ("economy", "economy", "standard")[place % 3]
                    chat(
                        address, site.questions[place % 200], model=f"proteus/{tier}", headers=bearer(tenant)
                    )
                    place += 1
                waiting = call(address, "GET", "/v1/audits?limit=200", headers=bearer(admin)).json()["data"]
                items = [
                    {"decision_id": one["decision_id"], "score": score[0], "source": "grader"}
                    for one in waiting
                ]
                if items:
                    call(address, "POST", "/v1/feedback", items, headers=bearer(admin))

        asking = threading.Thread(target=keep_asking)
        asking.start()
        problems: list[str] = []

        def heard(said: Any) -> None:
            """A browser calls every 401 and 403 an error; they are how the gateway says who may not."""
            if said.type == "error" and not any(status in said.text for status in ("401", "403")):
                problems.append(said.text)

        try:
            for width, scheme in ((1280, "light"), (390, "dark")):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page.on("console", heard)
                page.on("pageerror", lambda error: problems.append(str(error)))
                page.goto(f"{address}/console")
                page.wait_for_selector("#signin:not([hidden])")
                assert page.inner_text("#page", timeout=1_000) == ""  # nothing of anybody before that
                page.fill("#token", admin)
                page.click("text=Sign in >> nth=-1")
                page.wait_for_selector("#page:not([hidden]) h2")
                for name in PAGES:
                    page.click(f'nav a[href="#{name}"]')
                    page.wait_for_timeout(5_000 if name == "tiers" else 600)
                    _use(page, name, tenant)
                    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                    assert overflow <= 0, (name, width)
                    if folder:
                        page.screenshot(path=str(Path(folder) / f"{name}-{width}.png"))
                if width == 1280:
                    page.click('nav a[href="#tiers"]')
                    page.wait_for_selector(
                        "article:has-text('economy') .state:has-text('holding')", timeout=30_000
                    )
                    score[0] = 0.0
                    _until_violated(address, admin)
                    began = time.monotonic()
                    page.wait_for_selector(
                        "article:has-text('economy') .state:has-text('violated')", timeout=5_000
                    )
                    assert time.monotonic() - began <= 5.0
                    if folder:
                        page.screenshot(path=str(Path(folder) / "violated-1280.png"))
                page.click("text=Sign out")
                page.wait_for_selector("#signin:not([hidden])")
                page.close()
        finally:
            stop.set()
            asking.join(30)
    assert problems == []


def _use(page: Any, name: str, tenant: str) -> None:
    """What each control says it does, it does."""
    if name == "frontier":
        page.fill("#whatif", "0.5")
        page.click("text=Ask")
        assert "would cost about" in page.inner_text("#whatif-said")
    elif name == "decisions":
        page.click("button:has-text('why') >> nth=0")
        page.wait_for_selector("#decision li")
    elif name == "keys":
        page.fill("#key-name", "from the console")
        page.fill("#key-budget", "20")
        page.select_option("#key-period", "day")
        page.check("#key-paced")
        page.click("text=Create")
        page.wait_for_selector("#key-said:has-text('Shown once')")
        page.wait_for_selector("td:has-text('from the console')")
        page.wait_for_selector("td:has-text('of $20.00 a day, paced')")
        page.evaluate(
            "document.getElementById('key-said').textContent = ''"
        )  # a token is nothing for a picture
    elif name == "playground":
        page.click("text=Only decide")  # with the admin's key: nothing is called
        page.wait_for_selector("td:has-text('pool-')")
        page.click("text=Send")
        page.wait_for_selector("[role=alert]:has-text('admin key calls no model')")
        page.fill("#play-key", tenant)
        page.click("text=Send")
        page.wait_for_selector("h3:has-text('certified: ')")


def _until_violated(address: str, admin: str) -> None:
    """Wait until the gateway itself says so."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = call(address, "GET", "/v1/tiers", headers=bearer(admin)).json()["data"]
        if any(tier["state"] == "violated" for tier in found):
            return
        time.sleep(0.1)
    raise AssertionError("the tier did not break")
