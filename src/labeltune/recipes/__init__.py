"""Find a recipe, read it, apply `--set` overrides, and say plainly what is wrong with it."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from labeltune.folder import RECIPE, RunFolder
from labeltune.recipe import Recipe
from labeltune.recipes.keys import nearest, right_key, settings_class

__all__ = ["bundled_recipes", "load_recipe", "nearest"]

RECIPE_LIMIT_BYTES = 2**20
SETTING_DEPTH = 2
"""Sections are at depth 1, their settings at 2; deeper stand names and texts, which are never null."""
NULL, MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"
LINE_SEPARATORS = re.compile("[\x85\u2028\u2029]")
_shown = reprlib.Repr()  # a value may be of any size, and one of YAML's aliases grows as it is written out
_shown.maxstring, _shown.maxother, _shown.maxlevel = 200, 200, 2


def bundled_recipes() -> dict[str, Path]:
    """The recipes that ship with the package, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a bundled recipe, a YAML file, or the `recipe.json` of an old run, and apply `section.key=value` overrides.

    Raises:
        ValueError: no such recipe, not YAML, an unknown key (the nearest one is suggested), or a value out of bounds.
    """
    path = _find(name_or_path)
    content = _read(path)
    content.setdefault("name", path.parent.name if path.name == RECIPE else path.stem)
    for override in overrides:
        _apply(content, override)
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors()]
        raise ValueError(
            f"recipe {name_or_path}: " + "\n  ".join(["", *problems] if problems[1:] else problems)
        ) from None
    labels = recipe.data.labels
    return recipe if labels is None else recipe.with_labels(labels)


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if RunFolder(path).recipe.is_file():
        return RunFolder(path).recipe
    if path.is_file():
        return path
    shipped = bundled_recipes()
    if name_or_path in shipped:
        return shipped[name_or_path]
    raise ValueError(
        f"no recipe {name_or_path!r}: neither a file nor one of {', '.join(shipped)}{nearest(name_or_path, shipped)}"
    )


class _Null(str):
    """An unquoted null: no value where a setting may have none, and else the text that it is written as."""

    __slots__ = ()


class _TextLoader(yaml.SafeLoader):
    """Every scalar is read as the text that stands there; the setting that it is for decides what it is.

    So `yes`, `012`, `1.10` and `2024-01-01` stay labels. YAML itself lets a later key silently replace an earlier one;
    here it is an error.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (by first character, as in the class above)
        "<": [(MERGE, re.compile("<<$"))],
        **{first: [(NULL, re.compile("(~|null|Null|NULL|)$"))] for first in ("~", "n", "N", "")},
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_null(self, node: yaml.Node) -> _Null:
        return _Null(node.value)


yaml.add_constructor(NULL, _TextLoader.construct_null, _TextLoader)
yaml.add_constructor(MERGE, _TextLoader.construct_yaml_str, _TextLoader)  # where it is no key


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > RECIPE_LIMIT_BYTES:
            raise ValueError(f"recipe {path} has more than {RECIPE_LIMIT_BYTES // 2**20} MiB; is this really a recipe?")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"recipe {path} is not UTF-8 text; save it as UTF-8") from error
    try:
        content = _read_json(text) if path.suffix.lower() == ".json" else _read_yaml(text)
    except RecursionError as error:
        raise ValueError(f"recipe {path} is nested too deeply; is this really a recipe?") from error
    except ValueError as error:
        raise ValueError(f"recipe {path} {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"recipe {path} holds no sections; see `labeltune recipes` for examples")
    return content


def _read_json(text: str) -> Any:
    """JSON, in which numbers stay the text that they are written as.

    >>> _read_json('{"a": {"b": 1.10, "c": null}}')
    {'a': {'b': '1.10', 'c': None}}
    """
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"is not valid: the key {max(names, key=names.count)!r} stands twice")
    return found


def _read_yaml(text: str, depth: int = 0) -> Any:
    """YAML, in which every scalar but a null is the text that stands there.

    Args:
        depth: how deep in the recipe the text stands; a setting is at 2 and may be null, what is in it may not.

    >>> _read_yaml("data: {hub: null, labels: {yes: 012, no: null, on: ~}}")
    {'data': {'hub': None, 'labels': {'yes': '012', 'no': 'null', 'on': '~'}}}
    """
    if found := LINE_SEPARATORS.search(text):
        line, code = text.count("\n", 0, found.start()) + 1, f"\\u{ord(found[0]):04x}"
        raise ValueError(
            f'has the character {code} in line {line}, a line break to YAML; write it as "{code}" in quotes'
        )
    try:
        return _settled(yaml.load(text, Loader=_TextLoader), depth)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(f"is not valid YAML: {error}") from error


def _settled(content: Any, depth: int) -> Any:
    """The content with None for every null down to the settings themselves."""
    if isinstance(content, _Null):
        return None if depth <= SETTING_DEPTH else str(content)
    if depth <= SETTING_DEPTH + 1 and isinstance(content, dict):
        return {str(key): _settled(value, depth + 1) for key, value in content.items()}
    if depth <= SETTING_DEPTH + 1 and isinstance(content, list):
        return [_settled(value, depth + 1) for value in content]
    return content


def _apply(content: dict[str, Any], override: str) -> None:
    """Put one `section.key=value` into the recipe's content; the value is read as YAML.

    >>> content = {"train": {"seed": 0}}
    >>> _apply(content, "train.max_steps=40"); _apply(content, "data.files.train=a.jsonl"); content
    {'train': {'seed': 0, 'max_steps': '40'}, 'data': {'files': {'train': 'a.jsonl'}}}
    """
    dotted, equals, text = override.partition("=")
    if not equals or not all(part.strip() for part in dotted.split(".")):
        raise ValueError(f"--set {override!r} is not of the form section.key=value, such as train.max_steps=40")
    *parents, key = dotted.strip().split(".")
    place = content
    for parent in parents:
        if not isinstance(place.get(parent), dict):
            place[parent] = {}
        place = place[parent]
    try:
        place[key] = _read_yaml(text, depth=len(parents) + 1)
    except ValueError as error:
        raise ValueError(f"--set {override!r}: the value {error}; put it in quotes") from error


def _explain(problem: Any) -> str:
    """One pydantic problem in words: where, what, which value, what to do."""
    # pydantic names the alternatives of a type beside the keys, such as "dict[str,float]" or "function-before[...]"
    location = [part for part in problem["loc"] if not re.fullmatch(r"[a-z-]+\[.*\]|str|constrained-\w+", str(part))]
    where = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        section = _model_at(location[:-1])
        known = list(section.model_fields) if section else []
        hint = right_key(location[:-1], str(location[-1])) or (f"; there are {', '.join(known)}" if known else "")
        return f"unknown key {where}{hint}"
    if problem["type"] == "missing":
        return f"{where} is missing; add it"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{where} is {_shown.repr(problem['input'])}: {message}"


def _model_at(location: Sequence[Any]) -> type[BaseModel] | None:
    """The settings class that a location such as ("train", "seed") stands for."""
    model: type[BaseModel] = Recipe
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            return None
        inner = settings_class(field.annotation)
        if inner is None:
            return None
        model = inner
    return model
