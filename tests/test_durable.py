import os
import random
import shutil
from dataclasses import replace

import pytest
from reliability.damage import damage_everywhere

from faults import ERRORS, failing, record_calls
from labeltune.durable import (
    MANIFEST,
    DamagedError,
    NotWrittenError,
    read_file,
    read_notes,
    tidy,
    verify_folder,
    write_file,
    write_folder,
)
from labeltune.folder import RunFolder
from labeltune.identity import Identity
from labeltune.model.adapter import add_adapter
from labeltune.recipe import AdapterSettings
from labeltune.train.checkpoint import hold_checkpoint, load_checkpoint, newest_checkpoint
from labeltune.train.schedule import make_schedule
from labeltune.train.step import Optimizer
from tiny import ANSWERS, make_classifier, train_settings

FILES = [("a.bin", b"alpha" * 100), ("b.json", b"{}\n")]
IDENTITY = Identity("1" * 64, "2" * 64, "3" * 64, ("red", "green", "blue"))


def write_folder_at(path, notes):
    write_folder(path, FILES, notes)
    return path


@pytest.fixture(scope="module")
def trainee(tiny_model):
    classifier = make_classifier(tiny_model, ANSWERS)
    adapter = AdapterSettings(r=2, target_modules=["q_proj"])
    classifier = replace(classifier, model=add_adapter(classifier.model, adapter, seed=0))
    settings = train_settings()
    return classifier, Optimizer(classifier, settings, make_schedule(settings, 40))


def test_a_folder_reads_as_it_was_written(tmp_path):
    write_folder(tmp_path / "x", FILES, {"n": 1})
    assert verify_folder(tmp_path / "x") == read_notes(tmp_path / "x") == {"n": 1}
    assert read_file(tmp_path / "x", "a.bin") == FILES[0][1]
    write_folder(tmp_path / "x", FILES[:1], {"n": 2})
    assert verify_folder(tmp_path / "x") == {"n": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    with pytest.raises(DamagedError, match=r"b\.json is missing"):
        read_file(tmp_path / "x", "b.json")


def test_everything_is_flushed_before_its_name_changes_and_the_name_after(tmp_path, monkeypatch):
    with monkeypatch.context() as inside:
        log = record_calls(inside, lambda *_: None)
        write_folder(tmp_path / "x", FILES, {})
        write_file(tmp_path / "y.jsonl", ["one\n", "two\n"])
    aside = str(tmp_path / ".x.partial")
    expected = [("mkdir", aside)]
    for name in ("a.bin", "b.json", MANIFEST):
        expected += [(call, f"{aside}/{name}") for call in ("open", "write", "fsync")]
    expected += [("fsync", aside), ("rename", aside), ("fsync", str(tmp_path))]
    partial = str(tmp_path / "y.jsonl.partial")
    expected += [(call, partial) for call in ("open", "write", "fsync", "replace")] + [("fsync", str(tmp_path))]
    assert log == expected


def test_an_old_folder_goes_only_when_the_new_ones_name_is_on_disk(tmp_path, monkeypatch):
    write_folder(tmp_path / "x", FILES, {"n": 1})
    seen = []
    real = os.fsync

    def flush(place):
        real(place)
        if os.readlink(f"/proc/self/fd/{place}") == str(tmp_path):
            seen.append(verify_folder(tmp_path / ".x.replaced")["n"])

    monkeypatch.setattr(os, "fsync", flush)
    write_folder(tmp_path / "x", FILES, {"n": 2})
    assert seen == [1]
    assert not (tmp_path / ".x.replaced").exists()


@pytest.mark.parametrize("error", ERRORS)
def test_wherever_a_save_fails_the_path_is_named_and_the_previous_checkpoint_loads(
    trainee, tmp_path, monkeypatch, error
):
    classifier, optimizer = trainee
    hold_checkpoint(RunFolder(tmp_path), classifier, optimizer, 1, losses=[0.5], identity=IDENTITY)()
    with monkeypatch.context() as inside:
        log = record_calls(inside, lambda *_: None)
        shutil.rmtree(hold_checkpoint(RunFolder(tmp_path), classifier, optimizer, 3)())
    calls = len(log)
    assert calls >= 19
    for number in range(calls):
        with (
            failing(monkeypatch, number, ERRORS[error]),
            pytest.raises(NotWrittenError, match=r"checkpoint-2.* could not be written \(") as caught,
        ):
            hold_checkpoint(RunFolder(tmp_path), classifier, optimizer, 2, losses=[0.25], identity=IDENTITY)()
        assert caught.value.errno == ERRORS[error]
        tidy(tmp_path)
        newest = newest_checkpoint(RunFolder(tmp_path))
        # the last call flushes the new name: what it names is whole by then
        assert newest.name == ("checkpoint-2" if number == calls - 1 else "checkpoint-1")
        state = load_checkpoint(newest, classifier, optimizer, IDENTITY)
        assert state["losses"] == [0.25 if number == calls - 1 else 0.5]


@pytest.mark.parametrize("error", ERRORS)
def test_wherever_replacing_fails_the_old_or_the_new_is_there(tmp_path, monkeypatch, error):
    with monkeypatch.context() as inside:
        log = record_calls(inside, lambda *_: None)
        write_folder(tmp_path / "x", FILES, {"n": 1})
        write_folder(tmp_path / "x", FILES, {"n": 1})
        calls = len(log) - log.index(("mkdir", str(tmp_path / ".x.partial")), 1)
    for number in range(calls):
        with failing(monkeypatch, number, ERRORS[error]), pytest.raises(NotWrittenError, match=r"/\.?x"):
            write_folder(tmp_path / "x", FILES, {"n": 2})
        tidy(tmp_path)
        assert verify_folder(tmp_path / "x")["n"] == (2 if number == calls - 1 else 1)
        assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("error", ERRORS)
def test_wherever_writing_a_file_fails_the_old_one_stays(tmp_path, monkeypatch, error):
    path = tmp_path / "progress.json"
    for number in range(5):
        write_file(path, ["old"])
        with failing(monkeypatch, number, ERRORS[error]), pytest.raises(NotWrittenError, match=r"progress\.json"):
            write_file(path, ["new"])
        assert path.read_text() == ("new" if number == 4 else "old")
        assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_an_error_of_the_texts_is_not_put_down_to_the_disk(tmp_path):
    def texts():
        yield "one"
        raise OSError("the model's file is gone")

    with pytest.raises(OSError, match=r"^the model's file is gone$"):
        write_file(tmp_path / "x", texts())
    assert list(tmp_path.iterdir()) == []


def test_a_crash_between_the_two_renames_is_mended(tmp_path):
    for new_is_sound in (None, False, True):
        write_folder(tmp_path / "x", FILES, {"n": 1})
        os.rename(tmp_path / "x", tmp_path / ".x.replaced")
        if new_is_sound is not None:
            os.rename(write_folder_at(tmp_path / "new", {"n": 2}), tmp_path / "x")
        if new_is_sound is False:
            (tmp_path / "x" / "a.bin").write_bytes(b"")
        (tmp_path / ".y.partial").mkdir()
        (tmp_path / "z.jsonl.partial").write_text("half")
        tidy(tmp_path)
        assert verify_folder(tmp_path / "x")["n"] == (2 if new_is_sound else 1)
        assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_every_cut_and_every_flipped_bit_is_noticed(trainee, tmp_path):
    classifier, optimizer = trainee
    hold_checkpoint(RunFolder(tmp_path), classifier, optimizer, 1, identity=IDENTITY)()
    folder = hold_checkpoint(RunFolder(tmp_path), classifier, optimizer, 2, identity=IDENTITY)()
    seed = 0
    print(f"seed {seed}")
    found = damage_everywhere(folder, random.Random(seed), cuts_per_file=60, flips=600)
    assert found.tried >= 800
    assert found.unnoticed == []
    assert newest_checkpoint(RunFolder(tmp_path)) == folder
    passed_over = []
    (folder / "adapter_model.safetensors").write_bytes(b"")
    assert newest_checkpoint(RunFolder(tmp_path), passed_over.append).name == "checkpoint-1"
    assert "passed over checkpoint-2" in passed_over[0]
    assert "adapter_model.safetensors has 0 bytes instead of" in passed_over[0]


@pytest.mark.parametrize("part", ["base", "tokenizer", "prompt", "labels"])
def test_a_checkpoint_of_something_else_is_refused(trainee, tmp_path, part):
    classifier, optimizer = trainee
    folder = hold_checkpoint(RunFolder(tmp_path), classifier, optimizer, 1, identity=IDENTITY)()
    other = replace(IDENTITY, **{part: ("green", "red", "blue") if part == "labels" else "f" * 64})
    with pytest.raises(ValueError, match=f"checkpoint-1 has another {part} .*here"):
        load_checkpoint(folder, classifier, optimizer, other)
    assert load_checkpoint(folder, classifier, optimizer, IDENTITY)["step"] == 1


def test_an_adapter_of_another_rank_is_refused(trainee, tmp_path, tiny_model):
    classifier, optimizer = trainee
    folder = hold_checkpoint(RunFolder(tmp_path), classifier, optimizer, 1)()
    base = make_classifier(tiny_model, ANSWERS)
    wider = replace(base, model=add_adapter(base.model, AdapterSettings(r=4, target_modules=["q_proj"]), seed=0))
    with pytest.raises(ValueError, match=r"belongs to another adapter: .* is \(2, 32\) there and \(4, 32\) here"):
        load_checkpoint(folder, wider, optimizer)
