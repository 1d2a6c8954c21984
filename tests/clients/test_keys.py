"""What has one key goes to one partition, in every language."""

import json
import random
from pathlib import Path
from typing import Final

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2

from tests.clients.programs import TYPESCRIPT, java, run
from workers.kafka.producer import murmur2

pytestmark = [pytest.mark.clients, pytest.mark.timeout(60)]

ALPHABETS: Final = {
    "latin": (0x20, 0x7F),
    "umlauts": (0xC0, 0x250),
    "greek": (0x391, 0x3CA),
    "cyrillic": (0x410, 0x450),
    "hebrew": (0x5D0, 0x5EB),
    "arabic": (0x620, 0x64B),
    "devanagari": (0x905, 0x93A),
    "han": (0x4E00, 0x9FA5),
    "emoji": (0x1F300, 0x1F5FF),
    "mixed": (0x20, 0xD7FF),
}
_EACH: Final = 100
_PARTITIONS: Final = 12


def keys() -> list[str]:
    """Make 1,000 keys of several alphabets and lengths, the same in each run."""
    chosen = random.Random("keys")
    return [
        "".join(chr(chosen.randrange(*alphabet)) for _ in range(chosen.randrange(1, 40)))
        for alphabet in ALPHABETS.values()
        for _ in range(_EACH)
    ]


async def test_one_key_one_partition(tmp_path: Path) -> None:
    """1,000 keys go to the same partitions from Python, TypeScript and Java as by the workers' own murmur2."""
    made = keys()
    ours = [(murmur2(key.encode()) & 0x7FFFFFFF) % _PARTITIONS for key in made]
    assert set(ours) == set(range(_PARTITIONS))
    assert [(aiokafka_murmur2(key.encode()) & 0x7FFFFFFF) % _PARTITIONS for key in made] == ours
    lines = "".join(json.dumps(key) + "\n" for key in made).encode()
    typescript = await run("node", "test/partitions.ts", cwd=TYPESCRIPT, given=lines)
    assert [int(line) for line in typescript.split()] == ours
    source = (Path(__file__).parent / "java" / "Partitions.java").read_text(encoding="utf-8")
    hexadecimal = "".join(key.encode().hex() + "\n" for key in made).encode()
    assert [int(line) for line in (await java(source, tmp_path, given=hexadecimal)).split()] == ours
