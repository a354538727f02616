"""What ``penstock check`` tests: the settings, the stores, and each account's credentials at its provider."""
