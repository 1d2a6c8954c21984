"""The account that PostgreSQL runs as, which refuses to run as root."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_NOBODY_UID: Final = 65534  # where no account is called `nobody`


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account by its numbers."""

    uid: int
    gid: int

    def options(self) -> dict[str, Any]:
        """Make `subprocess` run a program as this account, without any group of the caller's."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def owns(self, path: Path) -> None:
        """Give a file or folder to this account."""
        os.chown(path, self.uid, self.gid)

    def reaches(self, folder: Path) -> bool:
        """Tell whether the account may enter an existing folder, and every folder above it."""
        place = folder.resolve()
        return all(self._may_enter(step) for step in (place, *place.parents))

    def _may_enter(self, folder: Path) -> bool:
        status = folder.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


def unprivileged_account(data: Path) -> Account | None:
    """Return whom PostgreSQL runs as: None = the caller, who is not root; else the data's owner, at first `nobody`."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Account(_NOBODY_UID, _NOBODY_UID)
    return Account(nobody.pw_uid, nobody.pw_gid)
