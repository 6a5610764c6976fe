"""Cut every file of a checkpoint at every length, flip bits in it, and see that each is noticed.

PYTHONPATH=tests:benchmarks python -m reliability.damage --flips 10000 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from labeltune.durable import DamagedError, verify_folder
from labeltune.folder import RunFolder
from labeltune.train.checkpoint import newest_checkpoint


@dataclass
class Found:
    """What became of the damages."""

    tried: int = 0
    unnoticed: list[str] = field(default_factory=list)


def damage_everywhere(folder: Path, rng: random.Random, cuts_per_file: int | None, flips: int) -> Found:
    """Damage a sound checkpoint in one way after the other, and mend it again.

    Args:
        cuts_per_file: so many lengths drawn at random, always with 0 and one byte less than all; every length if None.
        flips: single bits, drawn at random over the bytes of all files.
    """
    found = Found()
    contents = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    for path, content in contents.items():
        lengths = list(range(len(content)))
        if cuts_per_file is not None:
            lengths = sorted({0, len(content) - 1, *rng.choices(lengths, k=cuts_per_file)})
        for length in lengths:
            _try(folder, path, content[:length], f"{path.name} cut to {length} bytes", found)
        path.write_bytes(content)
    places = [(path, place) for path, content in contents.items() for place in range(len(content))]
    for path, place in rng.choices(places, k=flips):
        changed = bytearray(contents[path])
        changed[place] ^= 1 << rng.randrange(8)
        _try(folder, path, bytes(changed), f"{path.name} with a bit of byte {place} flipped", found)
        path.write_bytes(contents[path])
    return found


def _try(folder: Path, path: Path, content: bytes, damage: str, found: Found) -> None:
    path.write_bytes(content)
    found.tried += 1
    try:
        verify_folder(folder)
    except DamagedError:
        return
    found.unnoticed.append(damage)


def main() -> None:
    from reliability.harness import Harness

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    args = parser.parse_args()
    print(f"seed {args.seed}")
    with tempfile.TemporaryDirectory() as work:
        run = Harness(Path(work)).whole
        newest = newest_checkpoint(RunFolder(run))
        assert newest is not None
        begun_s = time.perf_counter()
        found = damage_everywhere(newest, random.Random(args.seed), None, args.flips)
        files = len(list(newest.iterdir()))
        print(f"{found.tried:,} damages of {files} files in {time.perf_counter() - begun_s:.0f} s")
        print(f"{len(found.unnoticed)} unnoticed", *found.unnoticed[:20], sep="\n  ")
        (newest / "trainer_state.json").write_bytes(b"")
        before = newest_checkpoint(RunFolder(run), print)
        assert before is not None
        print(f"then {before.name} is taken")
        sys.exit(bool(found.unnoticed))


if __name__ == "__main__":
    main()
