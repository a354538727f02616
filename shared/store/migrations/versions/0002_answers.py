"""Large answers are recognised when they come again.

Revision ID: 0002
"""

from alembic import op


revision = "0002"
down_revision = "0001"

STATEMENTS = (
    """
    CREATE TABLE answers (
        resource BYTEA NOT NULL,
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        kind TEXT NOT NULL,
        digest BYTEA NOT NULL,
        records INTEGER NOT NULL,
        external_ids TEXT NOT NULL,
        states BYTEA NOT NULL,
        seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (resource)
    )
    """,
    # Ids shrink little, and to try costs more than to write them.
    "ALTER TABLE answers ALTER external_ids SET STORAGE EXTERNAL",
    "CREATE INDEX answers_of_account ON answers (provider, account, seen_at)",
    """
    COMMENT ON TABLE answers
    IS 'The last large answer of each call by its digest, with the records it held: the same needs no reading'
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE answers")
