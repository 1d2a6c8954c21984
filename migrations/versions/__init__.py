"""One file a revision: the main branch is numbered, revisions of the contracting branch begin with `c`."""
