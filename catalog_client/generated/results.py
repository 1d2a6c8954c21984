# Generated from the contract by clients/python/generate.py: edit neither by hand.
"""What answers hold: each class is the `data` of one, or a part of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerResult:
    """A customer as every envelope shows it. `version` counts up with each change."""

    id: str
    name: str
    email: str
    preferences: Mapping[str, Any]
    is_active: bool
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            id=data["id"],
            name=data["name"],
            email=data["email"],
            preferences=data["preferences"],
            is_active=data["is_active"],
            version=data["version"],
            created_at=datetime.fromisoformat(data["created_at"]),
            updated_at=datetime.fromisoformat(data["updated_at"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOfCustomerResult:
    """The `data` of a list. Under a cursor `page` is null; `total_count` is null where counting would cost too
    much.
    """

    items: tuple[CustomerResult, ...]
    total_count: int | None
    page: int | None
    page_size: int
    has_more: bool
    next_cursor: str | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            items=tuple([CustomerResult.read(one) for one in data["items"]]),
            total_count=data["total_count"],
            page=data["page"],
            page_size=data["page_size"],
            has_more=data["has_more"],
            next_cursor=data["next_cursor"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerSummaryResult:
    """A customer's orders in figures; counts and sums are of placed orders."""

    customer_id: str
    name: str
    email: str
    total_orders: int
    total_spent: str
    last_order_date: datetime | None
    is_active: bool
    preferred_category: str | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            customer_id=data["customer_id"],
            name=data["name"],
            email=data["email"],
            total_orders=data["total_orders"],
            total_spent=data["total_spent"],
            last_order_date=(
                None if data["last_order_date"] is None else datetime.fromisoformat(data["last_order_date"])
            ),
            is_active=data["is_active"],
            preferred_category=data["preferred_category"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryFigures:
    """A category's placed orders and their revenue."""

    category: str
    orders: int
    revenue: str

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(category=data["category"], orders=data["orders"], revenue=data["revenue"])


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerFigures:
    """A living customer's placed orders and what they amount to."""

    customer_id: str
    total_orders: int
    total_spent: str

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(customer_id=data["customer_id"], total_orders=data["total_orders"], total_spent=data["total_spent"])


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerAnalyticsResult:
    """The figures over all customers; `new_customers_30_days` counts whole UTC days, today included."""

    total_customers: int
    active_customers: int
    new_customers_30_days: int
    total_orders: int
    total_revenue: str
    average_order_value: str
    top_categories: tuple[CategoryFigures, ...]
    top_customers: tuple[CustomerFigures, ...]
    as_of: date

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            total_customers=data["total_customers"],
            active_customers=data["active_customers"],
            new_customers_30_days=data["new_customers_30_days"],
            total_orders=data["total_orders"],
            total_revenue=data["total_revenue"],
            average_order_value=data["average_order_value"],
            top_categories=tuple([CategoryFigures.read(one) for one in data["top_categories"]]),
            top_customers=tuple([CustomerFigures.read(one) for one in data["top_customers"]]),
            as_of=date.fromisoformat(data["as_of"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductResult:
    """A product as every envelope shows it. `version` counts up with each change, also of its versions and
    rules.
    """

    id: str
    mnemonic: str
    overview: str
    is_confidential: bool
    category: str | None
    tags: tuple[str, ...]
    version: int
    created_at: datetime
    updated_at: datetime
    catalog: Mapping[str, Any]
    archived_at: datetime | None = None
    """Since when it is not sold; null: it is sold. Absent where a release before version 1.1.0 of the contract
    made the answer.
    """

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            id=data["id"],
            mnemonic=data["mnemonic"],
            overview=data["overview"],
            is_confidential=data["is_confidential"],
            category=data["category"],
            tags=tuple(data["tags"]),
            version=data["version"],
            created_at=datetime.fromisoformat(data["created_at"]),
            updated_at=datetime.fromisoformat(data["updated_at"]),
            catalog=data["catalog"],
            archived_at=None
            if data.get("archived_at") is None
            else (None if data["archived_at"] is None else datetime.fromisoformat(data["archived_at"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """An item of a version."""

    name: str
    position: int
    attributes: Mapping[str, Any] | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(name=data["name"], position=data["position"], attributes=data["attributes"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductVersionResult:
    """A version, in force from its first to its last day; without a last day until it is ended."""

    version_label: str
    start_date: date
    end_date: date | None
    items: tuple[ItemResult, ...]
    created_at: datetime

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            version_label=data["version_label"],
            start_date=date.fromisoformat(data["start_date"]),
            end_date=(None if data["end_date"] is None else date.fromisoformat(data["end_date"])),
            items=tuple([ItemResult.read(one) for one in data["items"]]),
            created_at=datetime.fromisoformat(data["created_at"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """A rule of a product."""

    name: str
    parameters: Any
    start_date: date
    end_date: date | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            name=data["name"],
            parameters=data["parameters"],
            start_date=date.fromisoformat(data["start_date"]),
            end_date=(None if data["end_date"] is None else date.fromisoformat(data["end_date"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRulesResult:
    """The rules of a product, and the product's version that they came with."""

    mnemonic: str
    version: int
    rules: tuple[RuleResult, ...]

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            mnemonic=data["mnemonic"],
            version=data["version"],
            rules=tuple([RuleResult.read(one) for one in data["rules"]]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row that was not imported; rows count from 1."""

    row: int
    error_code: str
    reason: str

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(row=data["row"], error_code=data["error_code"], reason=data["reason"])


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningsOfRefusedRow:
    """The `data` of a `warning` envelope: how much took effect, and one line for each thing that did not."""

    processed_count: int
    warning_count: int
    warnings: tuple[RefusedRow, ...]

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            processed_count=data["processed_count"],
            warning_count=data["warning_count"],
            warnings=tuple([RefusedRow.read(one) for one in data["warnings"]]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductDetailResult:
    """A product with its versions by first day, and their items by position."""

    id: str
    mnemonic: str
    overview: str
    is_confidential: bool
    category: str | None
    tags: tuple[str, ...]
    version: int
    created_at: datetime
    updated_at: datetime
    catalog: Mapping[str, Any]
    versions: tuple[ProductVersionResult, ...]
    archived_at: datetime | None = None
    """Since when it is not sold; null: it is sold. Absent where a release before version 1.1.0 of the contract
    made the answer.
    """

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            id=data["id"],
            mnemonic=data["mnemonic"],
            overview=data["overview"],
            is_confidential=data["is_confidential"],
            category=data["category"],
            tags=tuple(data["tags"]),
            version=data["version"],
            created_at=datetime.fromisoformat(data["created_at"]),
            updated_at=datetime.fromisoformat(data["updated_at"]),
            catalog=data["catalog"],
            versions=tuple([ProductVersionResult.read(one) for one in data["versions"]]),
            archived_at=None
            if data.get("archived_at") is None
            else (None if data["archived_at"] is None else datetime.fromisoformat(data["archived_at"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOfProductResult:
    """The `data` of a list. Under a cursor `page` is null; `total_count` is null where counting would cost too
    much.
    """

    items: tuple[ProductResult, ...]
    total_count: int | None
    page: int | None
    page_size: int
    has_more: bool
    next_cursor: str | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            items=tuple([ProductResult.read(one) for one in data["items"]]),
            total_count=data["total_count"],
            page=data["page"],
            page_size=data["page_size"],
            has_more=data["has_more"],
            next_cursor=data["next_cursor"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ViolationResult:
    """Where the data breaks a rule (a dotted path, empty for the whole), and how."""

    path: str
    reason: str

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(path=data["path"], reason=data["reason"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVerdictResult:
    """What a rule says of the data; `problem` is why it could not be evaluated, where it could not."""

    name: str
    holds: bool
    violations: tuple[ViolationResult, ...]
    problem: str | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            name=data["name"],
            holds=data["holds"],
            violations=tuple([ViolationResult.read(one) for one in data["violations"]]),
            problem=data["problem"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductDataResult:
    """What the rules in force on a day say of the data; valid when all of them hold."""

    mnemonic: str
    on_date: date
    is_valid: bool
    rules: tuple[RuleVerdictResult, ...]

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            mnemonic=data["mnemonic"],
            on_date=date.fromisoformat(data["on_date"]),
            is_valid=data["is_valid"],
            rules=tuple([RuleVerdictResult.read(one) for one in data["rules"]]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLineResult:
    """A line as it was ordered."""

    mnemonic: str
    quantity: int
    unit_price: str
    attributes: Mapping[str, Any] | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            mnemonic=data["mnemonic"],
            quantity=data["quantity"],
            unit_price=data["unit_price"],
            attributes=data["attributes"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCatalog:
    """What the catalogue says of the order: the category of the line with the greatest amount (of equals the
    first).
    """

    category: str | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(category=data["category"])


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResult:
    """An order as every envelope shows it."""

    id: str
    customer_id: str
    status: Literal["placed", "cancelled"] | str
    lines: tuple[OrderLineResult, ...]
    total_amount: str
    catalog: OrderCatalog
    created_at: datetime

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            id=data["id"],
            customer_id=data["customer_id"],
            status=data["status"],
            lines=tuple([OrderLineResult.read(one) for one in data["lines"]]),
            total_amount=data["total_amount"],
            catalog=OrderCatalog.read(data["catalog"]),
            created_at=datetime.fromisoformat(data["created_at"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOfOrderResult:
    """The `data` of a list. Under a cursor `page` is null; `total_count` is null where counting would cost too
    much.
    """

    items: tuple[OrderResult, ...]
    total_count: int | None
    page: int | None
    page_size: int
    has_more: bool
    next_cursor: str | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            items=tuple([OrderResult.read(one) for one in data["items"]]),
            total_count=data["total_count"],
            page=data["page"],
            page_size=data["page_size"],
            has_more=data["has_more"],
            next_cursor=data["next_cursor"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRow:
    """A row that was put aside: its key, column by column as text, and why."""

    key: tuple[str, ...]
    reason: str

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(key=tuple(data["key"]), reason=data["reason"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpent:
    """Where the workers' time went; `signal` is what held them up, where something did."""

    spent: str
    signal: str | None
    seconds: float

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(spent=data["spent"], signal=data["signal"], seconds=data["seconds"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run, or a verify, as it stands. Of what was never started `state` is null, and the figures are not
    there. `seconds_left` is an interval; `result` is what a dry run or a verify found, in a form of each;
    `events` are the moves that are legal now; `fraction` is of the estimate.
    """

    name: str
    state: (
        Literal[
            "pending",
            "running",
            "pausing",
            "paused",
            "cancelling",
            "cancelled",
            "completed",
            "completed_with_quarantine",
            "failed",
        ]
        | str
        | None
    )
    chunks: Mapping[str, int] | None = None
    """How many chunks there are, by state."""
    run_id: int | None = None
    kind: Literal["work", "verify"] | str | None = None
    definition: str | None = None
    reason: str | None = None
    events: tuple[str, ...] | None = None
    reverse: bool | None = None
    dry_run: bool | None = None
    rate_cap_rows_per_s: float | None = None
    pass_: int | None = None
    rows_estimated: int | None = None
    rows_walked: int | None = None
    rows_done: int | None = None
    rows_quarantined: int | None = None
    quarantine: tuple[QuarantinedRow, ...] | None = None
    fraction: float | None = None
    chunk_rows: int | None = None
    rows_per_s: float | None = None
    seconds_left: tuple[float, ...] | None = None
    time: tuple[TimeSpent, ...] | None = None
    trouble: str | None = None
    result: Mapping[str, Any] | None = None
    asked_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            name=data["name"],
            state=data["state"],
            chunks=data.get("chunks"),
            run_id=data.get("run_id"),
            kind=data.get("kind"),
            definition=data.get("definition"),
            reason=data.get("reason"),
            events=None if data.get("events") is None else tuple(data["events"]),
            reverse=data.get("reverse"),
            dry_run=data.get("dry_run"),
            rate_cap_rows_per_s=data.get("rate_cap_rows_per_s"),
            pass_=data.get("pass"),
            rows_estimated=data.get("rows_estimated"),
            rows_walked=data.get("rows_walked"),
            rows_done=data.get("rows_done"),
            rows_quarantined=data.get("rows_quarantined"),
            quarantine=None
            if data.get("quarantine") is None
            else tuple([QuarantinedRow.read(one) for one in data["quarantine"]]),
            fraction=data.get("fraction"),
            chunk_rows=data.get("chunk_rows"),
            rows_per_s=data.get("rows_per_s"),
            seconds_left=None
            if data.get("seconds_left") is None
            else (None if data["seconds_left"] is None else tuple(data["seconds_left"])),
            time=None if data.get("time") is None else tuple([TimeSpent.read(one) for one in data["time"]]),
            trouble=data.get("trouble"),
            result=data.get("result"),
            asked_at=None
            if data.get("asked_at") is None
            else (None if data["asked_at"] is None else datetime.fromisoformat(data["asked_at"])),
            started_at=None
            if data.get("started_at") is None
            else (None if data["started_at"] is None else datetime.fromisoformat(data["started_at"])),
            finished_at=None
            if data.get("finished_at") is None
            else (None if data["finished_at"] is None else datetime.fromisoformat(data["finished_at"])),
            seconds=data.get("seconds"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReading:
    """What a signal of the live traffic said last; `level` is its part of the budget."""

    signal: str
    value: float | None
    limit: float
    level: float | None
    trouble: str | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            signal=data["signal"],
            value=data["value"],
            limit=data["limit"],
            level=data["level"],
            trouble=data["trouble"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleResult:
    """How much of their time workers may run: `share` 1 without limit, 0 stopped, and the signal that says so."""

    level: float | None
    signal: str | None
    share: float
    sampled_s_ago: float | None
    readings: tuple[SignalReading, ...]

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            level=data["level"],
            signal=data["signal"],
            share=data["share"],
            sampled_s_ago=data["sampled_s_ago"],
            readings=tuple([SignalReading.read(one) for one in data["readings"]]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillWorkerResult:
    """A backfill worker, and whether it knows this definition; null where it does not tell."""

    worker: str
    run_id: int | None
    spent: str
    signal: str | None
    knows: bool | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            worker=data["worker"],
            run_id=data["run_id"],
            spent=data["spent"],
            signal=data["signal"],
            knows=data["knows"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillResult:
    """The last run of a backfill, and its verify. `waits_because` says why nobody takes it up."""

    name: str
    state: (
        Literal[
            "pending",
            "running",
            "pausing",
            "paused",
            "cancelling",
            "cancelled",
            "completed",
            "completed_with_quarantine",
            "failed",
        ]
        | str
        | None
    )
    chunks: Mapping[str, int] | None = None
    """How many chunks there are, by state."""
    run_id: int | None = None
    kind: Literal["work", "verify"] | str | None = None
    definition: str | None = None
    reason: str | None = None
    events: tuple[str, ...] | None = None
    reverse: bool | None = None
    dry_run: bool | None = None
    rate_cap_rows_per_s: float | None = None
    pass_: int | None = None
    rows_estimated: int | None = None
    rows_walked: int | None = None
    rows_done: int | None = None
    rows_quarantined: int | None = None
    quarantine: tuple[QuarantinedRow, ...] | None = None
    fraction: float | None = None
    chunk_rows: int | None = None
    rows_per_s: float | None = None
    seconds_left: tuple[float, ...] | None = None
    time: tuple[TimeSpent, ...] | None = None
    trouble: str | None = None
    result: Mapping[str, Any] | None = None
    asked_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    summary: str | None = None
    verify: RunResult | None = None
    throttle: ThrottleResult | None = None
    workers: tuple[BackfillWorkerResult, ...] | None = None
    waits_because: str | None = None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            name=data["name"],
            state=data["state"],
            chunks=data.get("chunks"),
            run_id=data.get("run_id"),
            kind=data.get("kind"),
            definition=data.get("definition"),
            reason=data.get("reason"),
            events=None if data.get("events") is None else tuple(data["events"]),
            reverse=data.get("reverse"),
            dry_run=data.get("dry_run"),
            rate_cap_rows_per_s=data.get("rate_cap_rows_per_s"),
            pass_=data.get("pass"),
            rows_estimated=data.get("rows_estimated"),
            rows_walked=data.get("rows_walked"),
            rows_done=data.get("rows_done"),
            rows_quarantined=data.get("rows_quarantined"),
            quarantine=None
            if data.get("quarantine") is None
            else tuple([QuarantinedRow.read(one) for one in data["quarantine"]]),
            fraction=data.get("fraction"),
            chunk_rows=data.get("chunk_rows"),
            rows_per_s=data.get("rows_per_s"),
            seconds_left=None
            if data.get("seconds_left") is None
            else (None if data["seconds_left"] is None else tuple(data["seconds_left"])),
            time=None if data.get("time") is None else tuple([TimeSpent.read(one) for one in data["time"]]),
            trouble=data.get("trouble"),
            result=data.get("result"),
            asked_at=None
            if data.get("asked_at") is None
            else (None if data["asked_at"] is None else datetime.fromisoformat(data["asked_at"])),
            started_at=None
            if data.get("started_at") is None
            else (None if data["started_at"] is None else datetime.fromisoformat(data["started_at"])),
            finished_at=None
            if data.get("finished_at") is None
            else (None if data["finished_at"] is None else datetime.fromisoformat(data["finished_at"])),
            seconds=data.get("seconds"),
            summary=data.get("summary"),
            verify=None
            if data.get("verify") is None
            else (None if data["verify"] is None else RunResult.read(data["verify"])),
            throttle=None
            if data.get("throttle") is None
            else (None if data["throttle"] is None else ThrottleResult.read(data["throttle"])),
            workers=None
            if data.get("workers") is None
            else tuple([BackfillWorkerResult.read(one) for one in data["workers"]]),
            waits_because=data.get("waits_because"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeResult:
    """A zero-downtime change: where it stands, and what became of the last step that was asked for. `wish` is
    `waiting`, `done` or `refused`, with the reason; null where none was ever asked for.
    """

    change: str
    phase: str
    changed_at: datetime
    changed_by: str
    to: str | None
    wish: Literal["waiting", "done", "refused"] | str | None
    reason: str | None
    asked_by: str | None
    asked_at: datetime | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            change=data["change"],
            phase=data["phase"],
            changed_at=datetime.fromisoformat(data["changed_at"]),
            changed_by=data["changed_by"],
            to=data["to"],
            wish=data["wish"],
            reason=data["reason"],
            asked_by=data["asked_by"],
            asked_at=(None if data["asked_at"] is None else datetime.fromisoformat(data["asked_at"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillDetailResult:
    """… and the change of the same name; null where there is none."""

    name: str
    state: (
        Literal[
            "pending",
            "running",
            "pausing",
            "paused",
            "cancelling",
            "cancelled",
            "completed",
            "completed_with_quarantine",
            "failed",
        ]
        | str
        | None
    )
    change: ChangeResult | None
    chunks: Mapping[str, int] | None = None
    """How many chunks there are, by state."""
    run_id: int | None = None
    kind: Literal["work", "verify"] | str | None = None
    definition: str | None = None
    reason: str | None = None
    events: tuple[str, ...] | None = None
    reverse: bool | None = None
    dry_run: bool | None = None
    rate_cap_rows_per_s: float | None = None
    pass_: int | None = None
    rows_estimated: int | None = None
    rows_walked: int | None = None
    rows_done: int | None = None
    rows_quarantined: int | None = None
    quarantine: tuple[QuarantinedRow, ...] | None = None
    fraction: float | None = None
    chunk_rows: int | None = None
    rows_per_s: float | None = None
    seconds_left: tuple[float, ...] | None = None
    time: tuple[TimeSpent, ...] | None = None
    trouble: str | None = None
    result: Mapping[str, Any] | None = None
    asked_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    summary: str | None = None
    verify: RunResult | None = None
    throttle: ThrottleResult | None = None
    workers: tuple[BackfillWorkerResult, ...] | None = None
    waits_because: str | None = None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            name=data["name"],
            state=data["state"],
            change=(None if data["change"] is None else ChangeResult.read(data["change"])),
            chunks=data.get("chunks"),
            run_id=data.get("run_id"),
            kind=data.get("kind"),
            definition=data.get("definition"),
            reason=data.get("reason"),
            events=None if data.get("events") is None else tuple(data["events"]),
            reverse=data.get("reverse"),
            dry_run=data.get("dry_run"),
            rate_cap_rows_per_s=data.get("rate_cap_rows_per_s"),
            pass_=data.get("pass"),
            rows_estimated=data.get("rows_estimated"),
            rows_walked=data.get("rows_walked"),
            rows_done=data.get("rows_done"),
            rows_quarantined=data.get("rows_quarantined"),
            quarantine=None
            if data.get("quarantine") is None
            else tuple([QuarantinedRow.read(one) for one in data["quarantine"]]),
            fraction=data.get("fraction"),
            chunk_rows=data.get("chunk_rows"),
            rows_per_s=data.get("rows_per_s"),
            seconds_left=None
            if data.get("seconds_left") is None
            else (None if data["seconds_left"] is None else tuple(data["seconds_left"])),
            time=None if data.get("time") is None else tuple([TimeSpent.read(one) for one in data["time"]]),
            trouble=data.get("trouble"),
            result=data.get("result"),
            asked_at=None
            if data.get("asked_at") is None
            else (None if data["asked_at"] is None else datetime.fromisoformat(data["asked_at"])),
            started_at=None
            if data.get("started_at") is None
            else (None if data["started_at"] is None else datetime.fromisoformat(data["started_at"])),
            finished_at=None
            if data.get("finished_at") is None
            else (None if data["finished_at"] is None else datetime.fromisoformat(data["finished_at"])),
            seconds=data.get("seconds"),
            summary=data.get("summary"),
            verify=None
            if data.get("verify") is None
            else (None if data["verify"] is None else RunResult.read(data["verify"])),
            throttle=None
            if data.get("throttle") is None
            else (None if data["throttle"] is None else ThrottleResult.read(data["throttle"])),
            workers=None
            if data.get("workers") is None
            else tuple([BackfillWorkerResult.read(one) for one in data["workers"]]),
            waits_because=data.get("waits_because"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillItem:
    """A backfill in the list of all, with its last run."""

    name: str
    state: (
        Literal[
            "pending",
            "running",
            "pausing",
            "paused",
            "cancelling",
            "cancelled",
            "completed",
            "completed_with_quarantine",
            "failed",
        ]
        | str
        | None
    )
    summary: str
    table: str
    reversed_by: str | None
    irreversible: str | None
    reverse_of_another: bool
    known_by: tuple[str, ...]
    waits_because: str | None
    chunks: Mapping[str, int] | None = None
    """How many chunks there are, by state."""
    run_id: int | None = None
    kind: Literal["work", "verify"] | str | None = None
    definition: str | None = None
    reason: str | None = None
    events: tuple[str, ...] | None = None
    reverse: bool | None = None
    dry_run: bool | None = None
    rate_cap_rows_per_s: float | None = None
    pass_: int | None = None
    rows_estimated: int | None = None
    rows_walked: int | None = None
    rows_done: int | None = None
    rows_quarantined: int | None = None
    quarantine: tuple[QuarantinedRow, ...] | None = None
    fraction: float | None = None
    chunk_rows: int | None = None
    rows_per_s: float | None = None
    seconds_left: tuple[float, ...] | None = None
    time: tuple[TimeSpent, ...] | None = None
    trouble: str | None = None
    result: Mapping[str, Any] | None = None
    asked_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            name=data["name"],
            state=data["state"],
            summary=data["summary"],
            table=data["table"],
            reversed_by=data["reversed_by"],
            irreversible=data["irreversible"],
            reverse_of_another=data["reverse_of_another"],
            known_by=tuple(data["known_by"]),
            waits_because=data["waits_because"],
            chunks=data.get("chunks"),
            run_id=data.get("run_id"),
            kind=data.get("kind"),
            definition=data.get("definition"),
            reason=data.get("reason"),
            events=None if data.get("events") is None else tuple(data["events"]),
            reverse=data.get("reverse"),
            dry_run=data.get("dry_run"),
            rate_cap_rows_per_s=data.get("rate_cap_rows_per_s"),
            pass_=data.get("pass"),
            rows_estimated=data.get("rows_estimated"),
            rows_walked=data.get("rows_walked"),
            rows_done=data.get("rows_done"),
            rows_quarantined=data.get("rows_quarantined"),
            quarantine=None
            if data.get("quarantine") is None
            else tuple([QuarantinedRow.read(one) for one in data["quarantine"]]),
            fraction=data.get("fraction"),
            chunk_rows=data.get("chunk_rows"),
            rows_per_s=data.get("rows_per_s"),
            seconds_left=None
            if data.get("seconds_left") is None
            else (None if data["seconds_left"] is None else tuple(data["seconds_left"])),
            time=None if data.get("time") is None else tuple([TimeSpent.read(one) for one in data["time"]]),
            trouble=data.get("trouble"),
            result=data.get("result"),
            asked_at=None
            if data.get("asked_at") is None
            else (None if data["asked_at"] is None else datetime.fromisoformat(data["asked_at"])),
            started_at=None
            if data.get("started_at") is None
            else (None if data["started_at"] is None else datetime.fromisoformat(data["started_at"])),
            finished_at=None
            if data.get("finished_at") is None
            else (None if data["finished_at"] is None else datetime.fromisoformat(data["finished_at"])),
            seconds=data.get("seconds"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOfBackfillItem:
    """The `data` of a list. Under a cursor `page` is null; `total_count` is null where counting would cost too
    much.
    """

    items: tuple[BackfillItem, ...]
    total_count: int | None
    page: int | None
    page_size: int
    has_more: bool
    next_cursor: str | None

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(
            items=tuple([BackfillItem.read(one) for one in data["items"]]),
            total_count=data["total_count"],
            page=data["page"],
            page_size=data["page_size"],
            has_more=data["has_more"],
            next_cursor=data["next_cursor"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeResult:
    """The envelope that answered the command; OUTCOME_ERASED where it spoke of a customer deleted since."""

    status_code: int
    message: str
    type: Literal["success", "error", "warning", "neutral"] | str
    data: Any

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read it; fields that are not known are ignored."""
        return cls(status_code=data["statusCode"], message=data["message"], type=data["type"], data=data["data"])
