"""The guides beside the code are true: what they copy stands in the files, and what they name is there."""

import re
from itertools import chain, takewhile
from pathlib import Path
from typing import Final

import pytest
from typer.main import get_command

from contracts.kinds import Kind, Version
from persistence.table import Column
from workers.cli import app
from workers.command_line.tree import parse

ROOT: Final = Path(__file__).parents[2]
GUIDES: Final = ("contracts/ADDING.md", "contracts/VERSIONS.md")
LEFT_OUT: Final = "…"

_BLOCK: Final = re.compile(r"^In `([^`]+)`:\n\n```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`([^`\n]+)`")
_FILE: Final = re.compile(r"(?:[a-z_]+/)+[a-zA-Z_0-9]+\.(?:py|md)|[A-Z]+\.md")
BLOCKS: Final = [
    (guide, file, part)
    for guide in GUIDES
    for file, block in _BLOCK.findall((ROOT / guide).read_text(encoding="utf-8"))
    for part in block.split(f"{LEFT_OUT}\n")
]


def text_of(guide: str) -> str:
    """Read a guide."""
    return (ROOT / guide).read_text(encoding="utf-8")


@pytest.mark.parametrize(("guide", "file", "part"), BLOCKS)
def test_what_is_copied_stands_there(guide: str, file: str, part: str) -> None:
    """Each block, as far as it is not left out, is a part of the file that is named above it."""
    assert part.strip()
    assert part in (ROOT / file).read_text(encoding="utf-8"), f"{guide}: another {file} by now"


@pytest.mark.parametrize("guide", GUIDES)
def test_every_block_says_where_it_stands(guide: str) -> None:
    """No code is made up."""
    text = text_of(guide)
    assert text.count("```text") == len(_BLOCK.findall(text)) > 0


@pytest.mark.parametrize("guide", GUIDES)
def test_what_is_named_is_there(guide: str) -> None:
    """Files, tests, targets of make, commands, fields of kinds and columns."""
    named = _CODE.findall(text_of(guide))
    files = {one for one in named if _FILE.fullmatch(one)}
    assert {one for one in files if not (ROOT / one).is_file()} == set()
    tests = {one for one in named if re.fullmatch(r"test_\w+", one)}
    defined = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert {one for one in tests if f"def {one}(" not in defined} == set()
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {one[5:] for one in named if one.startswith("make ")} <= targets
    catalog = get_command(app)
    for words in (one.split()[1:] for one in named if one.startswith("catalog ")):
        parse(list(takewhile(lambda word: not word.startswith(">"), words)), catalog)
    known = chain(Kind.__dataclass_fields__, Version.__dataclass_fields__, Column.__dataclass_fields__)
    assert {one.split("=")[0] for one in named if re.match(r"[a-z_]+=", one)} <= set(known)
