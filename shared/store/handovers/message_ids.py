"""The id of a change as handlers see it: the same at every attempt and every replay."""

MESSAGE_ID = "'chg_' || left(encode(coalesce(c.mark, sha256(i.key || convert_to(c.id::text, 'UTF8'))), 'hex'), 32)"
"""As SQL: the query has the change as ``c`` and ``installation i``; null where the change is not kept any more."""
