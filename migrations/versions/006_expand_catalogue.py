"""The expand of the product's catalogue: the jsonb column beside the text, and where the phases of changes live.

`schema_changes` has a row a change; `schema_change_log` its history; `worker_heartbeats` says who acts by which phase.
Workers of the release before know nothing of it and run on: they name their columns, and the new one may be null.

Two functions look at the data for whoever wants to take a step, be it a worker or a contracting revision, so that both
get the same answer, out of one snapshot: null, or the reason why not.
"""

from migrations.safe_ddl import drop_tables, run

revision = "006"
down_revision = "005"
branch_labels = None
depends_on = None

UNFINISHED = """
create function schema_change_unfinished(asked text) returns text language plpgsql stable as $$
-- The rows themselves. Text that is no JSON counts as different. Once contracted, the text is stale and not read.
declare
    rows_missing bigint;
    rows_different bigint;
    sample text;
begin
    if asked <> 'product_catalog' then
        raise exception 'there is no change %', asked;
    elsif (select phase from schema_changes where change = asked) = 'contracted' then
        select count(*), 0, min(id::text) into rows_missing, rows_different, sample
        from products where new_catalog is null;
    else
        select count(*) filter (where new_catalog is null), count(new_catalog), min(id::text)
        into rows_missing, rows_different, sample
        from products
        where new_catalog is null
            or case when pg_input_is_valid(old_catalog_field, 'jsonb')
                then new_catalog <> old_catalog_field::jsonb else true end;
    end if;
    if sample is null then
        return null;
    end if;
    return format('%s products have no new_catalog, and in %s it differs from old_catalog_field (for example in %s)',
        rows_missing, rows_different, sample);
end
$$
"""

REFUSAL = """
create function schema_change_refusal(asked text, wanted text) returns text language plpgsql stable as $$
-- The rows, the chunks of the backfill of the change's name, and a verify of it that was begun after the last step.
declare
    present text;
    since timestamptz;
    reason text;
    worked bigint;
    verified bigint;
begin
    select phase, last_exclusive_at into present, since from schema_changes where change = asked;
    if wanted = 'contracted' and present not in ('reading_new', 'contracted') then
        return format('it is %s, and goes to contracted from reading_new', present);
    elsif wanted not in ('backfilled', 'reading_new', 'contracted') or (present, wanted) = ('reading_new', 'backfilled')
    then
        return null;
    end if;
    if present = 'contracted' then
        select max(changed_at) into since from schema_change_log where change = asked and to_phase = 'reading_new';
    end if;

    reason := schema_change_unfinished(asked);
    if reason is not null then
        return reason;
    end if;

    select max(id) into worked from backfill_runs
    where name = asked and kind = 'work' and not dry_run and not reverse and state not in ('cancelled', 'failed');
    if worked is null then
        return format('the backfill %s was never run', asked);
    end if;
    reason := schema_change_gap(worked);
    if reason is not null or wanted = 'backfilled' then
        return reason;
    end if;

    select max(id) into verified from backfill_runs
    where verifies = worked and kind = 'verify' and not dry_run and state = 'completed' and started_at > since;
    if verified is null then
        return format('no verify of run %s was begun after the last step (%s) and completed', worked, since);
    end if;
    reason := schema_change_gap(verified);
    if reason is null and exists (
        select from backfill_chunks
        where run_id = verified and state = 'done'
            and (rows_left <> 0 or rows_differing <> 0 or expected_digest is distinct from actual_digest))
    then
        reason := format('run %s, a verify, found rows that are missing or differ', verified);
    end if;
    return reason;
end
$$
"""

GAP = """
create function schema_change_gap(run bigint) returns text language plpgsql stable as $$
-- Whether the chunks of a run over a uuid key tile it, in each pass: each begins where the one before it ends, the
-- first without a lower bound, the last without an upper one.
declare
    place text;
    found bigint;
begin
    select count(*) into found from backfill_chunks where run_id = run and state in ('done', 'quarantined');
    select coalesce(low[1], 'the start') into place
    from (
        select pass, low, high,
            lag(high) over in_order as ended, lead(pass) over in_order is null as last
        from backfill_chunks
        where run_id = run and state in ('done', 'quarantined')
        window in_order as (partition by pass order by low[1]::uuid nulls first)
    ) as chunk
    where low is distinct from ended or (high is null) <> last
    limit 1;
    if found = 0 then
        return format('run %s has not done a chunk yet', run);
    elsif place is not null then
        return format('the chunks of run %s leave a gap or overlap at %s', run, place);
    end if;
    return null;
end
$$
"""


def upgrade() -> None:
    """Create the tables, which are new, then add the column: last, as it holds the only lock that others feel."""
    run(
        """
        create table schema_changes (
            change text constraint schema_changes_pkey primary key,
            lock_key bigint not null constraint schema_changes_lock_key unique,
            phase text not null default 'expanded' constraint schema_changes_phase_known check (
                phase in ('expanded', 'dual_write', 'backfilled', 'reading_new', 'contracted')),
            changed_at timestamptz not null default now(),
            changed_by text not null,
            last_exclusive_at timestamptz not null default now()
        )
        """,
        """
        create table schema_change_log (
            id bigint generated always as identity constraint schema_change_log_pkey primary key,
            change text not null constraint schema_change_log_change_fkey references schema_changes (change),
            from_phase text not null,
            to_phase text not null,
            changed_at timestamptz not null,
            changed_by text not null
        )
        """,
        "create index schema_change_log_newest on schema_change_log (change, id desc)",
        """
        create table worker_heartbeats (
            worker text constraint worker_heartbeats_pkey primary key,
            role text not null,
            phases jsonb not null,
            p99_ms jsonb not null,
            started_at timestamptz not null default now(),
            seen_at timestamptz not null default now()
        ) with (fillfactor = 50)
        """,
        """
        insert into schema_changes (change, lock_key, changed_by)
        values ('product_catalog', hashtextextended('schema change: product_catalog', 0), 'migration 006')
        """,
        GAP,
        UNFINISHED,
        REFUSAL,
        "alter table products add column new_catalog jsonb",
    )


def downgrade() -> None:
    """Drop column and tables. Nothing is lost before `contracted`: until then the old column has every write."""
    run(
        """
        do $$
        begin
            if exists (select from schema_changes where change = 'product_catalog' and phase = 'contracted') then
                raise exception 'old_catalog_field is out of date since the contraction: finish that and take it back';
            end if;
        end
        $$
        """,
        # The release that used functions and column is gone when its expand is taken back.
        "-- squawk-ignore ban-drop-function\ndrop function schema_change_refusal(text, text)",
        "-- squawk-ignore ban-drop-function\ndrop function schema_change_unfinished(text)",
        "-- squawk-ignore ban-drop-function\ndrop function schema_change_gap(bigint)",
        "-- squawk-ignore ban-drop-column\nalter table products drop column new_catalog",
    )
    drop_tables("worker_heartbeats", "schema_change_log", "schema_changes")
