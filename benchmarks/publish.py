"""`make bench-docs`: docs/benchmark.md, its pictures and README's table from a finished run.

    python benchmarks/publish.py bench-results/full [--root .]

Takes the tables as they stand in the run's report.md, and the pictures that a page can carry; nothing is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

PICTURES = ("ratio", "frontier", "promise", "confidence", "streams", "leak", "budget")
"""Kinds of figures kept; the run's report.html has all of them."""
BEGIN, END = "<!-- benchmark: made by `make bench-docs` -->", "<!-- /benchmark -->"
_FIGURE = re.compile(r"^!\[([^\]]*)\]\(figures/(([a-z]+)-[^)]+\.png)\)$")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder that `proteus benchmark -o` wrote")
    parser.add_argument("--root", type=Path, default=Path(), help="folder of the repository")
    options = parser.parse_args()
    publish(options.run, options.root)


def publish(run: Path, root: Path) -> None:
    """Write docs/benchmark.md and docs/images/benchmark/, and the table in README.md."""
    report = (run / "report.md").read_text(encoding="utf-8")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    images = root / "docs" / "images" / "benchmark"
    if images.exists():
        shutil.rmtree(images)
    images.mkdir(parents=True)
    page, pictures = page_of(report, manifest)
    for name in pictures:
        shutil.copyfile(run / "figures" / name, images / name)
    (root / "docs" / "benchmark.md").write_text(page, encoding="utf-8")
    readme = root / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), headline_of(report)), encoding="utf-8")


def page_of(report: str, manifest: dict[str, object]) -> tuple[str, list[str]]:
    """The page, and the names of the pictures it shows."""
    title, _, rest = report.partition("\n\n")
    pictures: list[str] = []
    kept: list[str] = []
    blocks = rest.split("\n\n")
    skip = False
    for block in blocks:
        if skip:  # the caption of a picture that was left out
            skip = False
            continue
        figure = _FIGURE.match(block)
        if figure is None:
            kept.append(block)
        elif figure[3] in PICTURES:
            pictures.append(figure[2])
            kept.append(f"![{figure[1]}](images/benchmark/{figure[2]})")
        else:
            skip = True
    how = (
        f"Made from a run by `make bench-docs`; no number is typed by hand. The run: `{manifest['command']}`, commit "
        f"{manifest['commit']}. `make bench` repeats it where the data are at hand; its report.html has all figures."
    )
    return "\n\n".join([title, how, *kept]).rstrip() + "\n", pictures


def headline_of(report: str) -> str:
    """The first sentence, the first table and its note."""
    blocks = report.split("\n\n")
    table = next(place for place, block in enumerate(blocks) if block.startswith("|"))
    return "\n\n".join(blocks[1 : table + 2])


def with_table(readme: str, headline: str) -> str:
    """The README with what stands between its marks replaced."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md lacks the marks {BEGIN} and {END}.")
    more = "All routers, figures and the method: [benchmark](docs/benchmark.md). `make bench` repeats it."
    return f"{before}{BEGIN}\n\n{headline}\n\n{more}\n\n{END}{after}"


if __name__ == "__main__":
    main()
