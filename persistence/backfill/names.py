"""Names of tables and columns, as an author writes them and as SQL must have them.

A column is written as it is called, whatever that is: `order`, `Net Price`. A table is too, where it is one word; one
with blanks or dots in it is written in double quotes, as in SQL. A column may be, as well.
"""

import re
from typing import Final

_TABLE: Final = re.compile(r'(?:[^\W\d][\w$]*|"(?:[^"]|"")+")(?:\.(?:[^\W\d][\w$]*|"(?:[^"]|"")+"))?')
_PART: Final = re.compile(r'"(?:[^"]|"")+"|[^".]+')
_IN_QUOTES: Final = re.compile(r'"(?:[^"]|"")+"')
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_$]*")
LONGEST_BYTES: Final = 63
"""PostgreSQL cuts a longer name off, so that none is longer."""

# Words that have a meaning of their own in some place: all but those that PostgreSQL 18 calls unreserved.
_LISTED: Final = """
all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case
cast char character check coalesce collate collation column concurrently constraint create cross current_catalog
current_date current_role current_schema current_time current_timestamp current_user dec decimal default
deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full grant
greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull join
json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize
json_table json_value lateral leading least left like limit localtime localtimestamp merge_action national
natural nchar none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay
placing position precision primary real references returning right row select session_user setof similar
smallint some substring symmetric system_user table tablesample then time timestamp to trailing treat trim true
union unique user using values varchar variadic verbose when where window with xmlattributes xmlconcat
xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
"""
_WORDS: Final = frozenset(_LISTED.split())


def read_table(text: str) -> str | None:
    """Read a table's name, and write it as SQL needs it; None where it is none."""
    if not _TABLE.fullmatch(text):
        return None
    parts = [read_column(part) for part in _PART.findall(text)]
    return ".".join(quoted(part) for part in parts if part is not None) if None not in parts else None


def read_column(text: str) -> str | None:
    """Read a column's name; None where it is none."""
    name = text[1:-1].replace('""', '"') if _IN_QUOTES.fullmatch(text) else text
    return name if name and "\0" not in name and len(name.encode()) <= LONGEST_BYTES else None


def quoted(name: str) -> str:
    """Write a name as SQL needs it: in quotes where it would be read otherwise."""
    if _PLAIN.fullmatch(name) and name not in _WORDS:
        return name
    return '"' + name.replace('"', '""') + '"'
