"""What a process was blamed for whose lease lapsed can be taken back when it lives.

Revision ID: 0004
"""

from alembic import op


revision = "0004"
down_revision = "0003"

STATEMENTS = (
    """
    CREATE TABLE lapses (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        worker UUID NOT NULL,
        event_id UUID,
        fetch_id BIGINT,
        counted BOOLEAN NOT NULL,
        at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX lapses_of_worker ON lapses (worker)",
    "CREATE INDEX lapses_at ON lapses (at)",
    """
    COMMENT ON TABLE lapses
    IS 'What became suspect, or counted a death, when a lease lapsed: taken back if its process beats again'
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE lapses")
