"""Records and the change feed: upserts, what really changed, and its numbers."""
