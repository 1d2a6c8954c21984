"""Keys of customers that were folded by a release before, and how they are found until the backfill has rewritten them.

Those releases did not normalise again after folding, and kept what is not shown: `stale` tells such a key, `refolded`
is what it is today. Such customers stand in partial indexes, which a database that never had one keeps at a single
block; workers of the release before may add to them while they run. Two living customers may meet in one key: both
stay, one of them stale.
"""

from typing import Final

_IGNORABLE: Final = (
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def stale(key: str) -> str:
    """Say in SQL that a key is folded as before; the words are those of the indexes' predicates."""
    return f"octet_length({key}) <> char_length({key}) and ({key} is not nfkc normalized or {key} ~ '{_IGNORABLE}')"


def refolded(key: str) -> str:
    """Fold a stale key in SQL: of a key that is not stale, it is the key itself."""
    return f"normalize(regexp_replace({key}, '{_IGNORABLE}', '', 'g'), nfkc)"


def may_be_stale(index: str) -> str:
    """Say in SQL whether a partial index of stale keys ever had an entry: one that is new is a single block."""
    return f"coalesce(pg_relation_size(to_regclass('{index}')), 0) > current_setting('block_size')::integer"


ANY_EMAIL: Final = may_be_stale("customers_email_key_stale")
"""Whether an e-mail may be found by its refolded key alone."""
ANY_NAME_OR_EMAIL: Final = f"{ANY_EMAIL} or {may_be_stale('customers_name_key_stale')}"
"""Whether a search may find a customer by a refolded key alone."""
