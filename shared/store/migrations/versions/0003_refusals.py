"""How often the API refused one thing (403, 404) is counted apart from all other attempts at it.

Revision ID: 0003
"""

from alembic import op


revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TABLE fetches ADD COLUMN refusals INTEGER DEFAULT 0 NOT NULL")


def downgrade() -> None:
    op.execute("ALTER TABLE fetches DROP COLUMN refusals")
