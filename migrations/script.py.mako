"""${message}

Revision ${up_revision}, after ${down_revision | comma,n}.
"""

from migrations.safe_ddl import run

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """One sentence on what the change is for."""
    run()


def downgrade() -> None:
    """One sentence on what is lost."""
    run()
