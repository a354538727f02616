"""Backup and restore: the database and the blobs of one moment, in a folder, and the drill that proves it."""
