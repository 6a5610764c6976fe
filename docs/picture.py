"""Writes docs/quickstart.svg, the README's picture, from a run folder: `python docs/picture.py RUN`."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from labeltune.folder import RunFolder
from labeltune.judge.summary import judge_run
from labeltune.judge.table import comparison_table

TARGET = Path(__file__).with_name("quickstart.svg")


def main() -> None:
    """Draw what the run itself printed at its end."""
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ make quickstart", style="bold"))
    console.print(comparison_table(judge_run(RunFolder(Path(sys.argv[1])))))
    svg = console.export_svg(title="labeltune")
    without_web_fonts = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    TARGET.write_text(without_web_fonts, encoding="utf-8")


if __name__ == "__main__":
    main()
