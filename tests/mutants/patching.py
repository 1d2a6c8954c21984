"""Patches that each take one protection out of the code, and the tests that must notice.

A patch is a unified diff under a short head:

    Removes: what is taken out, in a line
    Noticed by: a test, by its node id; one line for each
    Servers: own                               only where the tests stop servers
    Quick: yes                                 only where it belongs to the short form

Where a hunk goes is decided by its text, not by its line numbers: the lines that it keeps and removes must stand in the
file exactly once. Anything else is an error: a mutant that no longer applies proves nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

FOLDER: Final = Path(__file__).parent / "patches"
_HUNK: Final = re.compile(r"@@ .*@@.*")


class PatchError(Exception):
    """The patch does not fit the code, or is none."""


@dataclass(frozen=True)
class Hunk:
    """One change: these lines of this file become those."""

    file: str
    before: str
    after: str

    def apply(self, tree: Path) -> None:
        """Change the file; raises `PatchError` unless it can be changed at exactly one place."""
        path = tree / self.file
        if not path.is_file():
            raise PatchError(f"{self.file} does not exist")
        text = path.read_text(encoding="utf-8")
        found = text.count(self.before)
        if found != 1 or self.before == self.after:
            raise PatchError(f"{self.file}: a hunk fits at {found} places instead of one:\n{self.before}")
        path.write_text(text.replace(self.before, self.after), encoding="utf-8")


@dataclass(frozen=True)
class Mutant:
    """A protection taken out."""

    name: str
    removes: str
    noticed_by: tuple[str, ...]
    own_servers: bool
    quick: bool
    hunks: tuple[Hunk, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a patch; raises `PatchError` where it is none."""
        head, start, diff = path.read_text(encoding="utf-8").partition("\n--- ")
        said = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head.splitlines())]
        fields = dict(said)
        noticed_by = tuple(value for name, value in said if name == "Noticed by")
        hunks = tuple(_hunks(start.lstrip("\n") + diff))
        if "Removes" not in fields or not noticed_by or not hunks:
            raise PatchError(f"{path.name}: says not what it removes, not who notices, or changes nothing")
        return cls(
            path.stem,
            fields["Removes"],
            noticed_by,
            fields.get("Servers") == "own",
            fields.get("Quick") == "yes",
            hunks,
        )

    def apply(self, tree: Path) -> None:
        """Change the code in a folder; raises `PatchError` where it does not fit."""
        for hunk in self.hunks:
            hunk.apply(tree)


def mutants() -> list[Mutant]:
    """Read all of them, by name."""
    return [Mutant.read(path) for path in sorted(FOLDER.glob("*.patch"))]


def _hunks(diff: str) -> Iterator[Hunk]:
    file, before, after = "", [], []  # type: str, list[str], list[str]
    for line in [*diff.splitlines(keepends=True), "@@ end @@"]:
        if line.startswith("--- ") or _HUNK.match(line):
            if before or after:
                yield Hunk(file, "".join(before), "".join(after))
            before, after = [], []
        elif line.startswith("+++ b/"):
            file = line.removeprefix("+++ b/").strip()
        elif line[0] in " -+":
            if line[0] != "+":
                before.append(line[1:])
            if line[0] != "-":
                after.append(line[1:])
        else:
            raise PatchError(f"not a line of a diff: {line!r}")
