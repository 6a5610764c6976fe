"""Compiles the kernels for processors when the package is installed or built, where there is a C compiler."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/labeltune/model/native.c")
FLAGS = ("-O3", "-falign-loops=64", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
BUILDS = {"x86_64": ("x86-64-v3", "x86-64-v4")}
"""Processors to compile for, by machine; elsewhere `any`."""


class KernelsHook(BuildHookInterface):  # type: ignore[misc]
    """Puts `native-<version of the source>-<build>.so` beside the source, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile. Where that fails the package is complete all the same, and slower on processors."""
        source = Path(self.root, SOURCE)
        for old in source.parent.glob("native-*.so"):
            old.unlink()
        made = [path for build in BUILDS.get(platform.machine(), ("any",)) if (path := self._compile(source, build))]
        build_data["artifacts"] += [f"/{path.relative_to(self.root)}" for path in made]
        if made and version != "editable":
            build_data["pure_python"], build_data["infer_tag"] = False, False
            build_data["tag"] = f"py3-none-{platform.system().lower()}_{platform.machine()}"

    def _compile(self, source: Path, build: str) -> Path | None:
        compiler = shutil.which(os.environ.get("CC") or "cc")
        if compiler is None:
            self.app.display_warning("no C compiler: training on processors will be slower")
            return None
        key = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
        path = source.with_name(f"native-{key}-{build}.so")
        target = [] if build == "any" else [f"-march={build}"]
        command = [compiler, *FLAGS, *target, str(source), "-o", str(path), "-lm"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            self.app.display_warning(f"the kernels for processors could not be compiled: {done.stderr.strip()[:500]}")
            return None
        return path
