"""Products: `new_catalog` empty again, while nobody writes or reads it."""

TABLE = "products"
KEY = ("id",)
TODO = "new_catalog is not null"
SET = {"new_catalog": "null::jsonb"}
ROW_LOCAL = True
PHASES = {"product_catalog": ("expanded",)}
REVERSE = "product_catalog"
