"""Check the SQL of every revision, up and down, with squawk: `python -m migrations.lint`. Findings end with status 1.

Each revision is written out on its own, as it reaches the database, so squawk sees what is one transaction and what is
not. An exception to a rule stands beside its statement, with its reason: `-- squawk-ignore <rule>`.
"""

import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from migrations.runner import history, write_sql

POSTGRES_VERSION: Final = "18"
_VERSION_TABLE: Final = "CREATE TABLE alembic_version (\n"
_EXCUSE: Final = (
    f"{_VERSION_TABLE}    -- Alembic's own table, always of this form\n    -- squawk-ignore prefer-text-field\n"
)


def write_revisions(folder: Path) -> list[Path]:
    """Write the SQL of every revision into the folder, a file for each direction; return them in order."""
    written = []
    for one in history():
        up, down = folder / f"{one.revision}_up.sql", folder / f"{one.revision}_down.sql"
        up.write_text(write_sql(one).replace(_VERSION_TABLE, _EXCUSE), encoding="utf-8")
        down.write_text(write_sql(one, down=True), encoding="utf-8")
        written += [up, down]
    return written


def main() -> int:
    """Lint all revisions and return the process's status."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_revisions(Path(folder))
        squawk = Path(sysconfig.get_path("scripts")) / "squawk"
        found = subprocess.run([squawk, "--pg-version", POSTGRES_VERSION, *files], check=False)
    print(f"squawk read {len(files)} files: {'no findings' if found.returncode == 0 else 'findings'}")
    return 0 if found.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
