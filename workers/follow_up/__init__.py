"""From a claimed event to what its calls brought: planned, called for, stored."""
