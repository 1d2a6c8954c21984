"""What the workers' role may do beyond its work: with that, a fault in a worker could change the schema."""

from typing import Any, Final

from persistence.engine import Connection

_ASK: Final = """
with tables as (
    select c.oid, c.relowner, c.relname, c.relnamespace from pg_class c
    where c.relnamespace = (select relnamespace from pg_class where oid = to_regclass('outcomes'))
      and c.relkind in ('r', 'p')
)
select current_user as role, rolsuper as is_superuser, rolcreaterole as makes_roles, rolcreatedb as makes_databases,
    (select count(*) from tables where pg_has_role(relowner, 'usage')) as owned,
    has_database_privilege(current_database(), 'create') as makes_schemas,
    coalesce((select bool_or(has_schema_privilege(relnamespace, 'create')) from tables), false) as makes_tables
from pg_roles where rolname = current_user"""


async def excess_rights(connection: Connection) -> str | None:
    """Say what the role of this connection owns or may create; None where it may do its work and nothing else."""
    row: Any = await connection.fetchrow(_ASK)
    found = [
        text
        for text, is_so in (
            ("is a superuser", row["is_superuser"]),
            (f"owns {row['owned']} of our tables", row["owned"] and not row["is_superuser"]),
            ("may create tables", row["makes_tables"] and not row["is_superuser"]),
            ("may create schemas", row["makes_schemas"] and not row["is_superuser"]),
            ("may create roles", row["makes_roles"] and not row["is_superuser"]),
            ("may create databases", row["makes_databases"] and not row["is_superuser"]),
        )
        if is_so
    ]
    return f"the role {row['role']} {', '.join(found)}" if found else None
