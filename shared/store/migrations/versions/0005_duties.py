"""When each duty of the relay last succeeded, and since when a worker process only fails.

Revision ID: 0005
"""

from alembic import op


revision = "0005"
down_revision = "0004"

STATEMENTS = (
    """
    CREATE TABLE relay_duties (
        duty TEXT NOT NULL,
        succeeded_at TIMESTAMP WITH TIME ZONE NOT NULL,
        told_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        patience_seconds REAL NOT NULL,
        error TEXT,
        PRIMARY KEY (duty)
    )
    """,
    """
    COMMENT ON TABLE relay_duties
    IS 'When each duty of relays last succeeded, how old that may become, and what it has failed with since'
    """,
    "ALTER TABLE worker_processes ADD COLUMN failing_since TIMESTAMP WITH TIME ZONE, ADD COLUMN error TEXT",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE worker_processes DROP COLUMN failing_since, DROP COLUMN error")
    op.execute("DROP TABLE relay_duties")
