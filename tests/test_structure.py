"""What holds the house up: imports point one way, and what must be light stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import labeltune

SOURCE = Path(labeltune.__file__).parent
LAYERS = (
    {"__init__", "rows", "monitor", "hub", "environment", "terminal"},
    {"recipe"},
    {"recipes", "folder"},
    {"data", "prompt"},
    {"model"},
    {"train", "score"},
    {"judge"},
    {"explain"},
    {"report"},
    {"job", "finish", "show", "doctor", "export"},
    {"tuning", "explaining"},
    {"run", "predict"},
    {"cli"},
    {"__main__"},
)
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}
TORCH_FREE = (
    "run",
    "rows",
    "recipe",
    "recipes",
    "data",
    "judge",
    "explain.explanation",
    "report",
    "finish",
    "folder",
    "monitor",
    "cli",
)


def imports(path: Path) -> set[str]:
    """The top-level modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "labeltune":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("labeltune.")}
    return found - {"__version__"}


def module_of(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def test_every_module_has_its_layer():
    assert {module_of(path) for path in SOURCE.rglob("*.py")} == set(LAYER)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path):
    own = module_of(path)
    for other in imports(path) - {own}:
        assert LAYER[other] < LAYER[own], f"{own} imports {other}"


@pytest.mark.parametrize("name", TORCH_FREE)
def test_what_needs_no_model_imports_no_torch(name):
    code = f"import sys, labeltune.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


LIGHT = """
import sys
from labeltune.cli import app
try:
    app()
except SystemExit as stop:
    assert not stop.code
heavy = {"torch", "transformers", "datasets", "sklearn", "scipy", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["recipes"], ["--version"]])
def test_help_imports_no_torch(words):
    result = subprocess.run([sys.executable, "-c", LIGHT, *words], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


FORBIDDEN = ("torch.load(", "pickle", "yaml.load(", "shell=True", "trust_remote_code=True", "eval(", "exec(")


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_dangerous_is_called(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = [call for call in FORBIDDEN if call in line.replace("model.eval(", "").replace(".eval()", "")]
        allowed = "Loader=_UniqueKeyLoader" in line
        assert not found or allowed, f"{path.name}:{number}: {line.strip()}"
