"""The limits of the domain as constraints, dates that are dates, and a way to customers by keys folded as before.

Releases before stored 9999-12-31 and 0001-01-01 as `infinity` and `-infinity`, which JSON and Python cannot say: such
rows are repaired, and a trigger repairs what workers of the release before go on to write.

A constraint that old rows break stays NOT VALID: it binds new and changed rows, and `catalog doctor` names the others.
What a constraint cannot say (200 versions a product, the canonical form of JSON) is measured as nearly as it can be
without ever refusing what the edge accepts. The legacy columns have none: they hold what was there, and go.

Every step can be repeated.
"""

from migrations.safe_ddl import (
    add_check,
    commit,
    create_index_concurrently,
    drop_index_concurrently,
    run,
    validate_unless_broken,
)

revision = "011"
down_revision = "010"
branch_labels = None
depends_on = None

_TRIGGERS = {"product_versions": "product_versions_finite", "validation_instances": "validation_instances_finite"}
_INFINITE = "start_date in ('-infinity', 'infinity') or end_date in ('-infinity', 'infinity')"


def _finite(column: str) -> str:
    ends = "when 'infinity' then date '9999-12-31' when '-infinity' then date '0001-01-01'"
    return f"case {column} {ends} else {column} end"


def _repair(table: str) -> str:
    return f"""
        update {table} set start_date = {_finite("start_date")}, end_date = {_finite("end_date")}
        where {_INFINITE}
        """  # noqa: S608 (constants)


# Rules that a reverse put into the text: {"end_date": "infinity"}.
_REPAIR_TEXT = """
update products set old_validations = (
    select jsonb_agg(case when jsonb_typeof(rule) = 'object'
        then rule
            || case when rule ->> 'start_date' = '-infinity' then '{"start_date": "0001-01-01"}'::jsonb
                    when rule ->> 'start_date' = 'infinity' then '{"start_date": "9999-12-31"}'
                    else '{}' end
            || case when rule ->> 'end_date' = 'infinity' then '{"end_date": "9999-12-31"}'::jsonb
                    when rule ->> 'end_date' = '-infinity' then '{"end_date": "0001-01-01"}'
                    else '{}' end
        else rule end order by place)
    from jsonb_array_elements(old_validations::jsonb) with ordinality as listed (rule, place))::text
where old_validations like '%"_%_date": "%infinity"%'
    and case when pg_input_is_valid(old_validations, 'jsonb')
        then jsonb_typeof(old_validations::jsonb) = 'array' and old_validations::jsonb <> '[]' else false end
"""


def _object_within(column: str, max_bytes: int) -> str:
    """Say that a column holds a JSON object of so many bytes in canonical form; the cheap look comes first.

    What PostgreSQL writes is longer than that form by spaces, by `.0` and by numbers that it writes out.
    """
    return f"jsonb_typeof({column}) = 'object' and ({_json_within(column, max_bytes)})"


def _json_within(column: str, max_bytes: int) -> str:
    text = f"{column}::text"
    spared = f"replace(replace(regexp_replace({text}, '[.]0(?=[],}}])', '', 'g'), ', ', ','), '\": ', '\":')"
    return f"""octet_length({text}) <= {max_bytes}
        or octet_length({spared}) <= {max_bytes}
        or octet_length({text}) <= {8 * max_bytes} and {text} ~ '[0-9]{{20}}|0[.]0{{6}}'"""


_CALENDAR = "between '0001-01-01' and '9999-12-31'"
CHECKS = {
    "customers": {
        "name_length": "char_length(name) between 1 and 200",
        "email_length": "char_length(email) between 1 and 254",
        "email_key_length": "char_length(email_key) between 1 and 254",
        "preferences_bound": _object_within("preferences", 16 * 1024),
        "version_positive": "version >= 1",
    },
    "products": {
        "tags_bound": """case when jsonb_typeof(tags) = 'array' then jsonb_array_length(tags) <= 20 and (
            tags = '[]' or not jsonb_path_exists(tags,
                '$[*] ? (@.type() != "string" || !(@ like_regex "^.{1,50}$" flag "s"))')) else false end""",
        # the text that it is filled from may hold JSON that is no object
        "catalog_bound": f"new_catalog is null or {_json_within('new_catalog', 64 * 1024)}",
        "version_positive": "version >= 1",
    },
    "product_versions": {
        "calendar": f"start_date {_CALENDAR} and (end_date is null or end_date {_CALENDAR})",
    },
    "product_version_items": {
        "place": "ordinal between 0 and 199",
        "name_length": "char_length(name) between 1 and 100",
        "attributes_bound": f"attributes is null or {_object_within('attributes', 2 * 1024)}",
    },
    "validation_instances": {
        "place": "ordinal between 0 and 49",
        "name_length": "char_length(name) between 1 and 100",
        "calendar": f"start_date {_CALENDAR} and (end_date is null or end_date {_CALENDAR})",
    },
    "orders": {
        "lines_bound": """case when jsonb_typeof(lines) = 'array' then jsonb_array_length(lines) between 1 and 100
            and not jsonb_path_exists(lines, '$[*].quantity ? (!(@ >= 1 && @ <= 1000000))') else false end""",
        "catalog_object": "jsonb_typeof(catalog) = 'object'",
        "category_length": "char_length(category) between 1 and 100",
    },
}
"""By table: what follows its name in the constraint's name, and the condition."""

# As `persistence.stale_keys` has it: what the folding of the releases before left in a key.
_IGNORABLE = (
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def _stale(key: str) -> str:
    return f"octet_length({key}) <> char_length({key}) and ({key} is not nfkc normalized or {key} ~ '{_IGNORABLE}')"


_INDEXES = {
    "customers_email_key_stale": (
        f"customers ((normalize(regexp_replace(email_key, '{_IGNORABLE}', '', 'g'), nfkc))) where {_stale('email_key')}"
    ),
    # a queue goes by the place in the log, not by the broker's clock, which may be set back
    "parked_commands_by_position": "parked_commands (log_topic, key_hmac, log_partition, log_offset, stamped_at)",
    "customers_name_key_stale": f"customers ((left(name_key, 1))) where {_stale('name_key')}",
}


def upgrade() -> None:
    """Have dates stay finite, repair them, then bound what is written; each index and each scan apart."""
    run(
        f"""
        create or replace function dates_made_finite() returns trigger language plpgsql as $$
        begin
            new.start_date := {_finite("new.start_date")};
            new.end_date := {_finite("new.end_date")};
            return new;
        end
        $$
        """,
        *(
            f"""
            create or replace trigger {trigger} before insert or update of start_date, end_date on {table}
            for each row when (not isfinite(new.start_date) or not isfinite(new.end_date))
            execute function dates_made_finite()
            """
            for table, trigger in _TRIGGERS.items()
        ),
    )
    # whether what stood before a parked command has had its turn: then it need not wait for an operator
    run("alter table parked_commands add column if not exists may_return boolean not null default false")
    commit()
    run(*(_repair(table) for table in _TRIGGERS), _REPAIR_TEXT)
    commit()
    for name, on in _INDEXES.items():
        create_index_concurrently(name, on)
    for table, checks in CHECKS.items():
        for name, condition in checks.items():
            add_check(table, f"{table}_{name}", condition)
    for table, checks in CHECKS.items():
        for name in checks:
            validate_unless_broken(table, f"{table}_{name}")


def downgrade() -> None:
    """Take the bounds away. What was repaired stays repaired."""
    for name in _INDEXES:
        drop_index_concurrently(name)
    # The release that relied on them is gone when its revision is taken back.
    run(
        *(
            f"-- squawk-ignore ban-drop-constraint\nalter table {table} drop constraint if exists {table}_{name}"
            for table, checks in CHECKS.items()
            for name in checks
        ),
        *(
            f"-- squawk-ignore ban-drop-trigger\ndrop trigger if exists {trigger} on {table}"
            for table, trigger in _TRIGGERS.items()
        ),
        "-- squawk-ignore ban-drop-function\ndrop function if exists dates_made_finite()",
        "-- squawk-ignore ban-drop-column\nalter table parked_commands drop column if exists may_return",
    )
