"""The console: what operators look at in a browser. It reads, and changes nothing."""
