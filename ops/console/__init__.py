"""The console: what operators look at in a browser, and where they retry, discard and release."""
