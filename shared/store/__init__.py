"""The event store: Postgres, the truth. One module a job; the tables are in ``schema``.

The flow's own statements (keep, claim, finish) are SQL text on asyncpg connections, because they are set-based and
their locking matters; what people read (``reading``) is composed with SQLAlchemy Core. docs/decisions/0003-store.md
"""
