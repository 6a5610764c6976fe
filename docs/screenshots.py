"""Writes the pictures of docs/report.md with headless Chromium: `python docs/screenshots.py quickstart=RUN snli=RUN`.

Either run folder may be left out; its pictures then stay as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "tests"))

from browser import WHY_NOT, start_browser  # noqa: E402 (it lies beside the tests)

UNFOLD = "document.querySelector('#robustness ~ details').open = true"
# run: {picture: (width, height, scheme, what stands at the top of the screen, what is done before)}
SHOTS = {
    "quickstart": {
        "report.png": (1200, 860, "light", "body", ""),
        "report-example.png": (1200, 640, "light", "#examples ~ h3:nth-of-type(2)", ""),
        "report-rows.png": (390, 844, "dark", "#rows", "document.querySelector('[data-outcome=fixed]').click()"),
    },
    "snli": {
        "report-snli.png": (1200, 1070, "light", "body", ""),
        "report-snli-slices.png": (1200, 560, "light", "#slices", ""),
        "report-snli-robustness.png": (1200, 640, "dark", "#robustness", UNFOLD),
        "report-snli-phone.png": (390, 1180, "light", "#calibration", ""),
    },
}


def main() -> None:
    """Open each run's report at each size and scheme, and take what stands on the screen."""
    if WHY_NOT:
        raise SystemExit(f"no pictures: {WHY_NOT}")
    runs = dict(argument.split("=", 1) for argument in sys.argv[1:])
    with start_browser() as browser:
        for name, run in runs.items():
            for picture, (width, height, scheme, place, script) in SHOTS[name].items():
                browser.emulate(width, height, scheme)
                browser.open(Path(run) / "report.html")
                browser.run(script)
                browser.run("document.querySelector(arguments[0]).scrollIntoView()", place)
                browser.screenshot(FOLDER / picture)


if __name__ == "__main__":
    main()
