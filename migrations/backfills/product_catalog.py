"""Products: the catalogue as jsonb in `new_catalog`, out of the JSON text in `old_catalog_field`.

Asked again after writes went to the old column alone, it puts right what differs: hence more than "is null". Text that
is no JSON is put aside with its reason.
"""

TABLE = "products"
KEY = ("id",)
TODO = "new_catalog is null or new_catalog <> old_catalog_field::jsonb"
SET = {"new_catalog": "old_catalog_field::jsonb"}
ROW_LOCAL = True
PHASES = {"product_catalog": ("dual_write", "backfilled", "reading_new")}
REVERSE = "product_catalog_reverse"
