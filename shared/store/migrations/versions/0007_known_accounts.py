"""Accounts that were in force once are known, and go when somebody says so.

Revision ID: 0007
"""

from alembic import op


revision = "0007"
down_revision = "0006"

STATEMENTS = (
    """
    CREATE TABLE known_accounts (
        provider TEXT NOT NULL,
        account TEXT NOT NULL,
        known_since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        removed_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (provider, account)
    )
    """,
    """
    COMMENT ON TABLE known_accounts
    IS 'Accounts that were in force once, by name: one that no settings name was lost until it is removed'
    """,
    """
    CREATE TABLE settings_trouble (
        single BOOLEAN DEFAULT true NOT NULL,
        said TEXT NOT NULL,
        since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (single),
        CONSTRAINT settings_trouble_single CHECK (single)
    )
    """,
    """
    COMMENT ON TABLE settings_trouble
    IS 'What the relay says of its settings while they are not in force as the file has them; no row: they are'
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE settings_trouble")
    op.execute("DROP TABLE known_accounts")
