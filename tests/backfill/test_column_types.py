"""Whatever a column is called and whatever its type does to a value: plan, run, verify and reverse mean the same."""

import pytest

from persistence.backfill.names import read_column
from tests.backfill.workshop import Workshop

# The column's type, and the value that it gets: an expression over `id`, more exact or longer than the type keeps.
ASSIGNED = {
    "numeric": ("numeric(12, 2)", "id * 1.1999"),
    "numeric_rounded_away": ("numeric(6, -2)", "id * 77.7"),
    "char": ("char(3)", "(id % 90)::text"),
    "char_of_one": ("char", "chr(65 + id % 26)"),
    "varchar": ("varchar(8)", "'v' || id || '      '"),
    "timestamp": ("timestamp(0)", "timestamp '2024-01-01' + id * interval '333 ms'"),
    "timestamptz": ("timestamptz(3)", "timestamptz '2024-01-01Z' + id * interval '333 us'"),
    "time": ("time(1)", "time '00:00' + id * interval '1234 ms'"),
    "interval": ("interval second(1)", "id * interval '1234 ms'"),
    "bit": ("bit(8)", "(id % 256)::bit(8)"),
    "varbit": ("varbit(12)", "(id % 256)::bit(8)"),
    "real": ("real", "id / 3.0"),
    "smallint": ("smallint", "id * 1.5"),
    "array": ("numeric(8, 1)[]", "array[id * 1.25, null]"),
    "domain": ("short_money", "id * 1.999"),
    "enumerated": ("colour", "(case id % 2 when 0 then 'red' else 'dark blue' end)::colour"),
    "json": ("json", "json_build_object('n', id)"),
    "array_of_json": ("json[]", "array[json_build_object('n', id)]"),
    "xml": ("xml", "('<n>' || id || '</n>')::xml"),
    "composite": ("pair", "row(id, id::text)::pair"),
    "bytea": ("bytea", "decode(lpad(to_hex(id), 8, '0'), 'hex')"),
}
TYPES = """
create domain short_money as numeric(9, 1);
create type colour as enum ('red', 'dark blue');
create type pair as (n integer, t text)"""


async def test_a_value_is_compared_as_its_column_keeps_it(own_workshop: Workshop) -> None:
    """Rounded, padded or cut by the type, row-local or not: data and verify agree; a value that differs is found."""
    await own_workshop.session.execute(TYPES)
    for name, (kind, expression) in ASSIGNED.items():
        await own_workshop.session.execute(f"""
            create table "t_{name}" (id integer primary key, target {kind});
            insert into "t_{name}" (id) select generate_series(1, 40)""")
        own_workshop.define(
            name,
            f"""
            TABLE = "t_{name}"
            KEY = ("id",)
            TODO = "target is null"
            SET = {{"target": {expression!r}}}
            ROW_LOCAL = {len(name) % 2 == 0}
            """,
        )
    async with own_workshop.workers():
        for name in ASSIGNED:
            run = await own_workshop.run(name)
            assert (name, run["state"], run["rows_done"]) == (name, "completed", 40), run["reason"]
            verify = await own_workshop.verify(name)
            assert (name, verify["state"]) == (name, "completed"), verify["result"]
            await own_workshop.session.execute(
                f'update "t_{name}" set target = (select target from "t_{name}" where id = 2) where id = 1'
            )
            verify = await own_workshop.verify(name)
            assert (name, verify["result"]["rows_differing"]) == (name, 1)


# The same by a statement whose ACTUAL is the column, and by a function.
WAYS = {
    "statement": """
        SQL = '''with done as (update walked set gross = net * 1.199 where {chunk} returning 1)
                 select count(*) from done'''
        EXPECTED = "net * 1.199"
        ACTUAL = "walked.gross"
        """,
    "consuming": """
        SQL = '''with done as (update walked set gross = net * 1.199, net = null where {chunk} returning 1)
                 select count(*) from done'''
        EXPECTED = "net * 1.199"
        ACTUAL = "gross"
        CONSUMES_SOURCE = True
        """,
    "function": """
        READS = ("net",)
        WRITES = ("gross", "label")
        def transform(row):
            return {"gross": row["net"] + "99", "label": row["net"][:3]}
        """,
    "assignment": """
        SET = {"gross": "net * 1.199", "label": "left(net::text, 2)"}
        """,
    "row_local": """
        SET = {"gross": "net * 1.199", "label": "left(net::text, 2)"}
        ROW_LOCAL = True
        """,
}


@pytest.mark.parametrize("way", WAYS)
async def test_every_way_of_writing_compares_as_the_column_keeps_it(workshop: Workshop, way: str) -> None:
    """A statement, one that takes its source away, a function and an assignment alike."""
    await workshop.session.execute("""
        create table walked (id integer primary key, net numeric(12, 3), gross numeric(12, 2), label char(5));
        insert into walked (id, net) select i, i * 1.111 from generate_series(1, 300) i""")
    head = 'TABLE = "walked"\nKEY = ("id",)\nTODO = "gross is null"\n'
    workshop.define("fill", head + "\n".join(line.removeprefix("        ") for line in WAYS[way].splitlines()))
    async with workshop.workers():
        run = await workshop.run("fill")
        assert (run["state"], run["rows_done"]) == ("completed", 300), run["reason"]
        assert (await workshop.verify("fill"))["state"] == "completed"


async def test_a_value_that_is_too_long_is_put_aside_never_cut_off(workshop: Workshop) -> None:
    """What a cast would cut off without a word is refused by the assignment, in a function as well."""
    await workshop.session.execute("""
        create table walked (id integer primary key, long text, a char(3), b varchar(3), c "char", d char);
        insert into walked (id, long) values (1, 'abc'), (2, 'abcd'), (3, 'a')""")
    workshop.define(
        "fill",
        """
        TABLE = "walked"
        KEY = ("id",)
        TODO = "a is null"
        READS = ("long",)
        WRITES = ("a", "b", "d")
        def transform(row):
            return {"a": row["long"], "b": row["long"], "d": row["long"][:1]}
        """,
    )
    async with workshop.workers():
        run = await workshop.run("fill")
        assert (run["state"], [one["key"] for one in run["quarantine"]]) == ("completed_with_quarantine", [["2"]])
        assert (await workshop.verify("fill"))["state"] == "completed"


NAMES = [
    ("order", "id", "select", "desc"),
    ("public.user", "Id", "Net Price", "Brutto"),
    ('"Mixed Case"', "order", 'quo"te', '"in ""quotes"""'),
    ('"dots.in"."a.table"', "a.b", "c;--", "l'apostrophe"),
    ('"We""ird"', "naïve", "{chunk}", "new"),
    ("plain", "k0", "e0", "w0"),
    ("table", "table", "column", "target"),
]


@pytest.mark.parametrize("row_local", [True, False])
async def test_every_name_works_everywhere(own_workshop: Workshop, row_local: bool) -> None:
    """Words of SQL, mixed case, blanks, dots, quotes: planned, run, verified, reversed, by assignment and function."""
    await own_workshop.session.execute('create schema "dots.in"')
    for place, (table, *columns) in enumerate(NAMES):
        names = [str(read_column(one)) for one in columns]
        key, source, target = ('"' + name.replace('"', '""') + '"' for name in names)
        sql_table = table if table.startswith('"') else ".".join(f'"{part}"' for part in table.split("."))
        await own_workshop.session.execute(f"""
            create table {sql_table} ({key} integer primary key, {source} text, {target} text);
            insert into {sql_table} select i, 's' || i from generate_series(1, 50) i""")
        head = f"TABLE = {table!r}\nKEY = ({columns[0]!r},)\n"
        local = f"ROW_LOCAL = {row_local}\n"
        own_workshop.folder.joinpath(f"there{place}.py").write_text(
            f"{head}TODO = {f'{target} is null'!r}\nSET = {{{columns[2]!r}: {f'upper({source})'!r}}}\n{local}"
            f"REVERSE = 'back{place}'\n"
        )
        own_workshop.folder.joinpath(f"back{place}.py").write_text(
            f"{head}TODO = {f'{target} is not null'!r}\nREADS = ({columns[1]!r},)\nWRITES = ({columns[2]!r},)\n"
            f"REVERSE = 'there{place}'\n"
            f"def transform(row):\n    assert row[{names[1]!r}]\n    return {{{names[2]!r}: None}}\n"
        )
    async with own_workshop.workers():
        for place, (table, *_) in enumerate(NAMES):
            name = f"there{place}"
            plan = await own_workshop.wish(lambda control, name=name: control.plan(name))  # type: ignore[misc]
            assert plan["rows_in_catalogue"] is not None
            for reverse in (False, True):
                run = await own_workshop.run(name, reverse=reverse)
                assert (table, run["state"], run["rows_done"]) == (table, "completed", 50), run["reason"]
                verify = await own_workshop.verify(name)
                assert (table, verify["state"]) == (table, "completed"), verify["result"]


async def test_what_role_and_database_have_as_defaults_means_nothing(own_workshop: Workshop) -> None:
    """Keys that travel as text are exact, and names are those of our schema, whatever the defaults of the database."""
    database = await own_workshop.session.fetchval("select current_database()")
    await own_workshop.session.execute("""
        create schema other;
        create table other.walked (id integer primary key, target text);
        create table walked (at timestamptz, day date, span interval, measure float8, raw bytea, price money,
            target text, primary key (at, day, span, measure, raw));
        insert into walked select timestamptz '2024-01-01Z' + i * interval '1.000001 h', date '2024-01-01' + i,
            i * interval '1 day 2.5 s', i / 3.0, decode(to_hex(i + 4096), 'hex'), i::money
        from generate_series(1, 400) i""")
    for setting in (
        "datestyle = 'SQL, DMY'",
        "timezone = 'Asia/Kathmandu'",
        "intervalstyle = 'sql_standard'",
        "extra_float_digits = -10",
        "bytea_output = 'escape'",
        "search_path = other, public",
        "lc_monetary = 'C'",
        "standard_conforming_strings = off",
    ):
        await own_workshop.session.execute(f"alter database {database} set {setting}")
    own_workshop.define(
        "fill",
        """
        TABLE = "walked"
        KEY = ("at", "day", "span", "measure", "raw")
        TODO = "target is null"
        READS = ("at", "day", "span", "measure", "raw", "price")
        WRITES = ("target",)
        def transform(row):
            return {"target": " ".join(row.values())}
        """,
    )
    async with own_workshop.workers(2):
        run = await own_workshop.run("fill")
        assert (run["state"], run["rows_done"]) == ("completed", 400), run["reason"]
        verify = await own_workshop.verify("fill")
        assert verify["state"] == "completed", verify["result"]
    first = await own_workshop.session.fetchval("select target from walked order by at limit 1")
    assert first == "2024-01-01 01:00:00.0036+00 2024-01-02 1 day 00:00:02.5 0.3333333333333333 \\x1001 $1.00"


PASSED_OVER = """
create table walked (id integer primary key, source integer not null default 1, target integer);
insert into walked select generate_series(1, 200);
create function pass_over() returns trigger language plpgsql as $$
begin
    if {condition} then return null; end if;
    return new;
end
$$;
create trigger pass_over before update on walked for each row execute function pass_over()"""
WRITING = {
    "row_local": 'SET = {"target": "source"}\nROW_LOCAL = True\n',
    "locked": 'SET = {"target": "source"}\n',
    "function": """
READS = ("source",)
WRITES = ("target",)
def transform(row):
    return {"target": row["source"]}
""",
}


@pytest.mark.parametrize("way", WRITING)
@pytest.mark.parametrize(
    ("condition", "passed_over"),
    [("new.id = 77", 1), ("new.id % 3 = 0", 66), ("new.id > 40", 160), ("new.id <> 5", 199), ("true", 200)],
)
async def test_rows_that_a_trigger_passes_over_are_told(
    workshop: Workshop, way: str, condition: str, passed_over: int
) -> None:
    """However many they are, the others are done, the run ends and says how many are left, and verify finds them."""
    await workshop.session.execute(PASSED_OVER.format(condition=condition))
    workshop.define("fill", 'TABLE = "walked"\nKEY = ("id",)\nTODO = "target is null"\n' + WRITING[way])
    async with workshop.workers():
        run = await workshop.run("fill")
        assert (run["state"], run["rows_done"]) == ("completed", 200 - passed_over), run["reason"]
        assert run["reason"].startswith(f"{passed_over} rows are still to do, for example ['")
        verify = await workshop.verify("fill")
        assert verify["state"] == "failed"
        assert verify["result"]["rows_left"] == passed_over
        await workshop.session.execute("drop trigger pass_over on walked")
        run = await workshop.run("fill")
        assert (run["state"], run["rows_done"], run["reason"]) == ("completed", passed_over, None)
        assert (await workshop.verify("fill"))["state"] == "completed"
