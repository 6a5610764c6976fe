"""Writes the pictures of docs/report.md from a run folder, with headless Chromium: `python docs/screenshots.py RUN`."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "tests"))

from browser import WHY_NOT, start_browser  # noqa: E402 (it lies beside the tests)

SHOTS = {
    "report.png": (1200, 860, "light", "h1", ""),
    "report-example.png": (1200, 640, "light", "#examples ~ h3:nth-of-type(2)", ""),
    "report-rows.png": (390, 844, "dark", "#rows", "document.querySelector('[data-outcome=fixed]').click()"),
}


def main() -> None:
    """Open the run's report at each size and scheme, and take what stands on the screen."""
    if WHY_NOT:
        raise SystemExit(f"no pictures: {WHY_NOT}")
    with start_browser() as browser:
        for name, (width, height, scheme, place, script) in SHOTS.items():
            browser.emulate(width, height, scheme)
            browser.open(Path(sys.argv[1]) / "report.html")
            browser.run(script)
            browser.run(
                "(document.querySelector(arguments[0]) ?? document.querySelector('#examples')).scrollIntoView()", place
            )
            if place == "h1":
                browser.run("scrollTo(0, 0)")
            browser.screenshot(FOLDER / name)


if __name__ == "__main__":
    main()
