"""Handlers, their cursors in the feed, and each change on its way to them."""
