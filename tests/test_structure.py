"""What holds the house up: imports point one way, and what must be light stays light."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import labeltune
from labeltune.recipes import _TextLoader

SOURCE = Path(labeltune.__file__).parent
LAYERS = (
    {"__init__", "monitor", "hub", "environment", "text", "durable", "identity", "lock", "stopping"},
    {"terminal", "rows", "summary"},
    {"recipe"},
    {"folder"},
    {"recipes"},
    {"data", "prompt", "tracking", "resume"},
    {"model"},
    {"score"},
    {"judge"},
    {"job"},
    {"train"},
    {"explain", "disk_space"},
    {"report"},
    {"show", "doctor", "export"},
    {"init", "pipeline", "predict", "plan"},
    {"cli"},
    {"__main__"},
)
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}
TORCH_FREE = (
    "pipeline",
    "rows",
    "summary",
    "recipe",
    "recipes",
    "data",
    "judge.runs",
    "judge.table",
    "explain.explanation",
    "report",
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


def test_what_needs_no_model_imports_no_torch():
    """One process imports all, one after the other, and names the first after which torch is there."""
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module('labeltune.' + name)\n"
    code += "    if 'torch' in sys.modules: sys.exit(name + ' imports torch')"
    result = subprocess.run([sys.executable, "-c", code, *TORCH_FREE], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def is_module(name: str) -> bool:
    path = SOURCE / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def modules_of_packages():
    """Every module inside a package of ours, and the modules of the same package that it imports at its top level."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if len(parts) < 2:
            continue
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        imported = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("labeltune."):
                module = (node.module or "").removeprefix("labeltune.")
                members = {f"{module}.{alias.name}" for alias in node.names}
                imported |= members if (SOURCE / module.replace(".", "/")).is_dir() else {module}
                imported |= {module} if any(not is_module(member) for member in members) else set()
        found[name] = {one for one in imported if one.split(".")[0] == parts[0] and one != name}
    return found


def test_there_are_no_circles_inside_packages():
    """Imports inside a package have an order too; a package's own name stands for its `__init__`."""
    graph = modules_of_packages()
    graph = {name: {one for one in others if one in graph} for name, others in graph.items()}
    order = graphlib.TopologicalSorter(graph)
    order.prepare()  # raises CycleError, which names the circle


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


FORBIDDEN_MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "subprocess", "pty",
    "commands", "xml", "telnetlib", "ftplib", "ctypes", "code",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.startfile", "tempfile.mktemp", "torch.load",
    "torch.save", "torch.hub.load", "torch.jit.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "input",
    "get_kernel", "shutil.unpack_archive",
}  # fmt: skip
FORBIDDEN_METHODS = {"extractall", "load_module", "run_path", "run_module"}
FORBIDDEN_PREFIXES = ("os.exec", "os.spawn", "os.posix_spawn")


def dangers(tree):
    """What a module does that data or a downloaded file could turn into running code, as line and words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((node.lineno, f"import {name}") for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Attribute) and node.attr == "allow_pickle":
            yield node.lineno, "allow_pickle"
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in FORBIDDEN_CALLS or name.startswith(FORBIDDEN_PREFIXES) or name.split(".")[-1] in FORBIDDEN_METHODS:
            yield node.lineno, name
        if name == "yaml.load" and options.get("Loader") not in {"_TextLoader", "yaml.SafeLoader"}:
            yield node.lineno, "yaml.load without a safe loader"
        if name.endswith("import_module") and not isinstance(node.args[0], ast.Constant):
            yield node.lineno, "import_module of a name that is not fixed"
        for option in ("trust_remote_code", "allow_pickle", "shell", "use_kernels", "push_to_hub"):
            if options.get(option, "False") != "False":
                yield node.lineno, f"{option}={options[option]}"
        if options.get("use_safetensors", "True") != "True":
            yield node.lineno, "use_safetensors is off"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_dangerous_is_called(path):
    found = [words for _, words in dangers(ast.parse(path.read_text()))]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from subprocess import run", "import ctypes.util", "torch.load(x)", "eval(x)",
        "os.execv(a, b)", "yaml.load(x)", "yaml.load(x, Loader=yaml.Loader)", "f(trust_remote_code=True)",
        "f(trust_remote_code=flag)",
        "np.load(x, allow_pickle=True)", "run(x, shell=True)", "importlib.import_module(name)", "archive.extractall()",
        "load(x, use_safetensors=False)",
    ],
)  # fmt: skip
def test_the_check_knows_a_danger_when_it_sees_one(line):
    assert list(dangers(ast.parse(line)))


def test_the_configuration_reader_is_a_safe_one():
    assert issubclass(_TextLoader, yaml.SafeLoader)
