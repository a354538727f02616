"""What people and programs read from the event store: composed with SQLAlchemy Core, read-only, never in the flow.

One module a subject: ``events``, ``records``, ``changes``, ``counting`` (stats), ``accounts``; the rows they give are
in ``shapes``, exactly as contract.md names them, and ``connecting`` opens the store.
"""
