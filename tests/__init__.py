"""Everything that proves the workers right; no part of the wheel."""
