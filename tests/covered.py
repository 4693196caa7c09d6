"""How much of each package the fast lane reaches, in whatever process; `scripts/test coverage`.

It ends with 1 where a package is below its floor. What no test reaches is tested, or deleted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import coverage

ROOT = Path(__file__).parent.parent
#: Percent of the lines of a package, or of the module that every process begins with; raised when
#: more is reached, never lowered without a word.
FLOORS = {
    "computing_node": 93, "console": 90, "learning": 97, "loaders": 94, "main_node": 95,
    "mnist_merge": 90, "protocol": 95, "relay_node": 89, "status_node": 88,
}  # fmt: skip


def ours(measured: coverage.Coverage) -> Iterator[Path]:
    """Yield the files that were reached, seen from here, but for those that only copies have.

    Tests add files to copies of the packages, which are counted as the packages themselves; what
    else is in a copy is reached here, too.
    """
    for path in sorted(map(Path, measured.get_data().measured_files())):
        if path.is_relative_to(ROOT) and path.exists():
            yield path.relative_to(ROOT)


def main() -> int:
    measured = coverage.Coverage()
    measured.combine()
    measured.save()
    lines: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    where: list[tuple[int, str]] = []
    for path in ours(measured):
        _, statements, _, missing, told = measured.analysis2(str(ROOT / path))
        package = path.parts[0].removesuffix(".py")
        lines[package] += len(statements)
        missed[package] += len(missing)
        if missing:
            where.append((len(missing), f"{path}: {told}"))
    low = 0
    print(f"{'package':16}{'lines':>8}{'missed':>8}{'reached':>9}{'floor':>7}")
    for package, floor in FLOORS.items():
        reached = 100 * (1 - missed[package] / max(lines[package], 1))
        low += reached < floor
        print(f"{package:16}{lines[package]:8,}{missed[package]:8,}{reached:8.1f}%{floor:6}%")
    total = 100 * (1 - missed.total() / max(lines.total(), 1))
    print(f"{'all':16}{lines.total():8,}{missed.total():8,}{total:8.1f}%")
    for _, line in sorted(where, reverse=True):
        print(f"  {line}")
    if low:
        print(f"{low} below the floor: test what is not reached, or delete it", file=sys.stderr)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
