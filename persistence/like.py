"""Search patterns in which every character is an ordinary one."""


def contains(needle: str) -> str:
    """Make a LIKE pattern that finds `needle` anywhere."""
    escaped = needle.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
