"""No socket where everything is here, a quick answer where something is missing, and nobody watching."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import yaml

from labeltune.data import load_rows
from labeltune.hub import check_model_within_reach
from labeltune.model.base import load_tokenizer
from labeltune.monitor import Monitor
from labeltune.recipe import DataSettings, ModelSettings
from labeltune.terminal import Terminal, silence

NO_SOCKETS = """
import socket, sys
def refuse(*args, **options):
    raise AssertionError(f"a socket was asked for: {args}")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
from labeltune import cli
cli.main()
"""


def in_cache(model: Path, home: Path) -> str:
    """Put a model into a hub cache of its own; returns its name."""
    commit = "0" * 40
    repository = home / "hub" / "models--nobody--tiny"
    shutil.copytree(model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    for branch in ("main", "other"):
        (repository / "refs" / branch).write_text(commit)
    return "nobody/tiny"


@pytest.mark.parametrize("where", ["folder", "cache", "a branch in the cache"])
def test_with_everything_here_a_run_opens_no_socket(recipe_file, tiny_model, tmp_path, where):
    name = str(tiny_model) if where == "folder" else in_cache(tiny_model, tmp_path / "home")
    words = ["run", recipe_file, "--out", tmp_path / "run", "--json"]
    settings = [f"model.name_or_path={name}", "train.max_steps=2"]
    settings += ["model.revision=other"] if "branch" in where else []
    result = subprocess.run(
        [sys.executable, "-c", NO_SOCKETS, *words, *(word for setting in settings for word in ("--set", setting))],
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["epochs"][-1]["step"] == 2


COMMIT = "0123456789" * 4


def dataset_in_cache(rows: Path, home: Path) -> str:
    """Put rows into a cache of datasets, as if they had come from the hub; returns the dataset's name."""
    import datasets

    files = {name: str(rows / f"{name}.jsonl") for name in ("train", "validation", "test")}
    made = datasets.load_dataset("json", data_files=files, cache_dir=str(home / "made"))
    source = Path(made["train"].cache_files[0]["filename"]).parent
    target = home / "datasets" / "nobody___tiny" / "default" / "0.0.0" / COMMIT
    shutil.copytree(source, target)
    for path in target.glob("json-*.arrow"):
        path.rename(path.with_name(path.name.replace("json-", "tiny-")))
    info = json.loads((target / "dataset_info.json").read_text())
    info |= {"dataset_name": "tiny", "config_name": "default"}
    (target / "dataset_info.json").write_text(json.dumps(info))
    return "nobody/tiny"


def run_on_hub_data(recipe_file, tmp_path, script, **data):
    """Run the recipe's rows as a dataset of the hub, with a cache in tmp_path and a hub that refuses."""
    recipe = yaml.safe_load(recipe_file.read_text())
    recipe["data"] = {name: value for name, value in recipe["data"].items() if name != "files"} | data
    path = tmp_path / "hub.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return subprocess.run(
        [sys.executable, "-c", script, "run", path, "--out", tmp_path / "run", "--json", "--set", "train.max_steps=2"],
        env=os.environ
        | {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("revision", [None, COMMIT, "main", "refs/pr/1"])
def test_with_a_dataset_in_the_cache_a_run_opens_no_socket(recipe_file, tmp_path, revision):
    """What the hub's client has noted tells the commit of a branch; a newer commit in the cache is not taken for it."""
    name = dataset_in_cache(tmp_path, tmp_path / "home")
    if revision is not None:
        newer = tmp_path / "home" / "datasets" / "nobody___tiny" / "default" / "0.0.0" / ("f" * 40)
        shutil.copytree(newer.with_name(COMMIT), newer)
        os.utime(newer, (2e9, 2e9))
    if revision not in {None, COMMIT}:
        repository = tmp_path / "home" / "hub" / "datasets--nobody--tiny"
        (repository / "snapshots" / COMMIT).mkdir(parents=True)
        reference = repository / "refs" / revision
        reference.parent.mkdir(parents=True)
        reference.write_text(COMMIT)
    result = run_on_hub_data(recipe_file, tmp_path, NO_SOCKETS, hub=name, revision=revision)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["epochs"][-1]["step"] == 2
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    assert "from the cache, commit 012345678901" in json.dumps(data)


@pytest.mark.parametrize("revision", ["f" * 40, None])
def test_a_dataset_that_is_not_in_the_cache_is_told(recipe_file, tmp_path, revision):
    name = dataset_in_cache(tmp_path, tmp_path / "home") if revision else "nobody/else"
    result = run_on_hub_data(
        recipe_file, tmp_path, MISSING.replace('"datasets"', '"peft"'), hub=name, revision=revision
    )
    assert result.returncode == 2, result.stderr
    if revision:
        assert f"of commit {COMMIT} instead of data.revision {revision}, and the hub does not answer" in result.stderr
        assert "connect to the network, or pin the cached commit" in result.stderr
    else:
        assert "'nobody/else' is no folder here and not in the cache, and the hub does not answer" in result.stderr
        assert "connect to the network, or give files with data.files" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_damaged_dataset_in_the_cache_is_named(recipe_file, tmp_path, monkeypatch):
    import datasets

    cache = tmp_path / "home" / "datasets"
    data = yaml.safe_load(recipe_file.read_text())["data"] | {
        "files": None,
        "hub": dataset_in_cache(tmp_path, cache.parent),
    }
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    for damage, message in (
        (lambda path: path.write_bytes(b"broken"), "data.hub 'nobody/tiny' cannot be read: "),
        (Path.unlink, "data.hub 'nobody/tiny' is no folder here and not in the cache, and the hub does not answer"),
    ):
        for path in cache.rglob("*.arrow"):
            damage(path)
        with pytest.raises((ValueError, ConnectionError), match=message):
            load_rows(DataSettings(**data))


MISSING = """
import sys
from labeltune import cli
try:
    cli.main()
finally:
    heavy = {"torch", "transformers", "datasets"} & set(sys.modules)
    assert not heavy, heavy
"""


def test_a_base_that_is_missing_is_told_before_anything_heavy_is_imported(recipe_file, tmp_path):
    words = ["run", recipe_file, "--out", tmp_path / "run", "--set", "model.name_or_path=nobody/has-this"]
    result = subprocess.run(
        [sys.executable, "-c", MISSING, *words],
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert "is not in the cache, and the hub does not answer" in result.stderr
    assert "download it elsewhere and give its folder as model.name_or_path" in result.stderr
    assert not (tmp_path / "run").exists()


SILENT = """
import socket, sys, threading, time
import datasets, huggingface_hub
from labeltune import cli, pipeline
silent = socket.create_server(("127.0.0.1", 0))
held, answers = [], {silent_from}
def hold():
    while True:
        connection, _ = silent.accept()
        held.append(connection)
        if len(held) <= answers:
            connection.recv(9999)
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
            connection.close()
threading.Thread(target=hold, daemon=True).start()
huggingface_hub.constants.ENDPOINT = f"http://127.0.0.1:{silent.getsockname()[1]}"
begun_s = time.perf_counter()
try:
    cli.main()
finally:
    print(len(held), time.perf_counter() - begun_s)
"""


@pytest.mark.parametrize("answers", [0, 1], ids=["never answers", "answers but once"])
@pytest.mark.parametrize("missing", ["config", "tokenizer", "safetensors", "dataset"])
def test_a_silent_hub_is_told_within_five_seconds(recipe_file, tiny_model, tmp_path, missing, answers):
    """It takes the connection and says nothing; what is imported is imported before the time is taken."""
    silent = SILENT.replace("{silent_from}", str(answers))
    if missing == "dataset":
        result = run_on_hub_data(recipe_file, tmp_path, silent, hub="nobody/else", revision="main")
        told = "'nobody/else' is no folder here and not in the cache, and the hub does not answer; connect to the"
    else:
        name = in_cache(tiny_model, tmp_path / "home")
        for part in (tmp_path / "home" / "hub" / "models--nobody--tiny" / "snapshots" / ("0" * 40)).glob(
            f"*{missing}*"
        ):
            part.unlink()
        words = ["run", recipe_file, "--out", tmp_path / "run", "--set", f"model.name_or_path={name}"]
        result = subprocess.run(
            [sys.executable, "-c", silent, *words],
            env=os.environ | {"HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
        )
        part = {"tokenizer": "the cache has no tokenizer of it", "safetensors": "the cache has no safetensors weights"}
        told = part.get(missing, "it is not in the cache")
    assert result.returncode == 2, result.stderr
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    asked, elapsed_s = result.stdout.split()
    assert int(asked) == 1 + answers
    assert float(elapsed_s) < 5
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_tokenizer_is_told(recipe_file, tiny_model, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("tokenizer.json"))
    with pytest.raises(ValueError, match=r"model folder '.*base' has no tokenizer; put in what is missing"):
        check_model_within_reach(str(folder), None)
    with pytest.raises(ValueError, match="cannot be loaded: it has no tokenizer"):
        load_tokenizer(ModelSettings(name_or_path=str(folder)))
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    shutil.copy(tiny_model / "tokenizer.json", folder)
    shutil.copy(folder / "model.safetensors", folder / "1.safetensors")
    with pytest.raises(ValueError, match=r"has no 2\.safetensors"):
        check_model_within_reach(str(folder), None)


@pytest.mark.parametrize("name", ["/no/such/folder", "a b", "a/b/c"])
def test_a_name_that_no_hub_has_is_told_too(name, monkeypatch):
    monkeypatch.setattr("labeltune.hub.hub_reachable", lambda _wanted: False)
    with pytest.raises(ValueError, match="neither a folder here nor to be had from the hub"):
        check_model_within_reach(name, None)


class Gone:
    """A terminal that has been closed."""

    encoding = "utf-8"

    def __getattr__(self, name):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("stream", [None, Gone], ids=["none", "gone"])
def test_a_terminal_that_goes_away_does_not_stop_the_work(monkeypatch, stream):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", stream and stream())
    terminal.say("nobody reads this")
    Terminal().say("nor this")
    with Terminal().bar("training", 3) as bar:
        bar.advance(3, "loss 0.1")


def in_a_terminal(command):
    """How a command ends, and what it writes, where someone is watching: in a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    environment = os.environ | {"TERM": "xterm", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown, end_s = b"", time.monotonic() + 120
    try:
        while time.monotonic() < end_s:
            if select.select([ours], [], [], 1.0)[0]:
                piece = os.read(ours, 2**16)
                shown += piece
                if not piece:
                    break
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
        if time.monotonic() >= end_s:
            child.kill()
    return child.wait(timeout=30), shown.decode(errors="replace")


def test_a_run_shows_its_bars_in_a_terminal_and_comes_to_its_end(recipe_file, tmp_path):
    words = ["run", recipe_file, "--out", tmp_path / "run", "--set", "train.max_steps=4"]
    code, shown = in_a_terminal([sys.executable, "-m", "labeltune", *words])
    assert code == 0
    assert "/40 rows" in shown  # of the bar of four steps of ten rows
    assert (tmp_path / "run" / "report.html").is_file()


def test_what_others_print_while_a_bar_is_shown_is_seen_too():
    program = """
import sys
from labeltune.terminal import Terminal
with Terminal().bar("training", 3) as bar:
    bar.advance(1, "loss 0.1")
    print("a warning of a library", file=sys.stderr)
    Terminal().say("a sentence of our own")
    bar.advance(2, "loss 0.2")
Terminal().say("the end")
"""
    code, shown = in_a_terminal([sys.executable, "-c", program])
    assert code == 0
    for text in ("training ", "loss 0.2", "a warning of a library", "a sentence of our own", "the end"):
        assert text in shown


def test_a_stream_whose_reader_is_gone_can_be_written_and_closed():
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    stream.write("x")
    silence(stream)
    stream.close()


def test_a_run_ends_well_when_its_pipes_are_closed(recipe_file, tmp_path):
    """Both ends of output go away as soon as the run has begun; it ends with 0 all the same."""
    words = ["run", recipe_file, "--out", tmp_path / "run", "--json", "--set", "train.max_steps=2"]
    child = subprocess.Popen(
        [sys.executable, "-m", "labeltune", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    child.stdout.close()
    child.stderr.close()
    assert child.wait(timeout=120) == 0
    assert (tmp_path / "run" / "report.html").is_file()


def test_samples_that_cannot_be_recorded_stop_nothing(tmp_path):
    with Monitor(interval_s=0.01) as monitor:
        monitor.record_to(tmp_path / "no such folder" / "hardware.jsonl")
        monitor.record_to(tmp_path)
    assert monitor.total_s() > 0
