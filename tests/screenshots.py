"""The pictures of README.md: the pages of a real run, its comparison and a profile, as a headless Chromium shows them.

python tests/screenshots.py RUN PROFILE docs/images
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from browser import Browser
from ttsbench.gating.compare import compare
from ttsbench.records import files, profiles, runs
from ttsbench.reports.pages import comparison_page, profile_page, report_page

WIDTH = 1200
# Name: of which page, where the picture begins, and how high it is.
PICTURES = {
    "report": ("report", "", 1240),
    "samples": ("report", "#where-the-time-goes", 950),
    "comparison": ("comparison", "", 1180),
    "profile": ("profile", "", 1180),
}
BYTES_MAX = 200_000


def main(run: Path, profile: Path, folder: Path) -> None:
    """One picture after the other."""
    with tempfile.TemporaryDirectory() as scratch:
        browser = Browser(Path(scratch) / "chromium")
        try:
            for page, text in pages(run, profile).items():
                files.write(Path(scratch) / f"{page}.html", text)
            for name, (page, selector, height) in PICTURES.items():
                browser.open(Path(scratch) / f"{page}.html", WIDTH)
                picture = browser.picture(selector, height)
                assert len(picture) < BYTES_MAX, f"{name} has {len(picture):,} bytes"
                files.write(folder / f"{name}.png", picture)
        finally:
            browser.close()


def pages(run: Path, profile: Path) -> dict[str, str]:
    """What each shows."""
    compared = compare([str(run)], allow_mismatch=False)
    return {
        "report": report_page.page(runs.read_run(run), run),
        "comparison": comparison_page.page(compared),
        "profile": profile_page.page(profiles.read(profile)),
    }


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
