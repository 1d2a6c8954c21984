"""JSON values, compared as JSON compares: `1` is not `true`, though Python calls them equal."""

import orjson


def same_json(one: object, other: object) -> bool:
    """Tell whether two values are the same JSON; the order of keys does not matter."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)
