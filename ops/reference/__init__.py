"""The documents that are made: the reference of settings and commands, and the pages of the site."""
