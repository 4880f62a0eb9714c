"""The benchmark's page and README's table come from a run, whole or not at all."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
REPORT = """# PROTEUS benchmark

**It costs 70%.**

| data | ours |
|---|--:|
| d | 0.7 |

The note.

## Cost

![Ratio.](figures/ratio-d.png)

*The ratio.*

![Mix.](figures/mix-d.png)

*Caption of the mix.*

| more | 1 |
|---|--:|
| x | 2 |
"""


@pytest.fixture
def publish() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish", ROOT / "benchmarks" / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "figures").mkdir(parents=True)
    (folder / "report.md").write_text(REPORT, encoding="utf-8")
    (folder / "manifest.json").write_text(
        json.dumps({"command": "proteus x", "commit": "abc"}), encoding="utf-8"
    )
    for name in ("ratio-d.png", "mix-d.png"):
        (folder / "figures" / name).write_bytes(b"png")
    return folder


def test_the_page_has_the_tables_and_the_pictures_it_can_carry(
    publish: ModuleType, run: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (root / "README.md").write_text(f"# P\n\n{publish.BEGIN}\nold\n{publish.END}\n\nrest\n", encoding="utf-8")
    for _ in range(2):  # the second time replaces what the first wrote
        publish.publish(run, root)
    page = (root / "docs" / "benchmark.md").read_text(encoding="utf-8")
    assert "| d | 0.7 |" in page
    assert "| x | 2 |" in page
    assert "`proteus x`, commit abc" in page
    assert "![Ratio.](images/benchmark/ratio-d.png)\n\n*The ratio.*" in page
    assert "mix" not in page.lower()
    assert [path.name for path in (root / "docs" / "images" / "benchmark").iterdir()] == ["ratio-d.png"]
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert "old" not in readme
    assert readme.startswith("# P\n")
    assert readme.endswith("rest\n")
    assert readme.count("**It costs 70%.**") == readme.count("| d | 0.7 |") == readme.count("The note.") == 1


def test_a_readme_without_marks_is_refused(publish: ModuleType) -> None:
    with pytest.raises(SystemExit, match="lacks the marks"):
        publish.with_table("# P", "table")


def test_the_readme_has_the_marks(publish: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count(publish.BEGIN) == readme.count(publish.END) == 1
