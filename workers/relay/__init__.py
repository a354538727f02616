"""The process that queues again whatever is due, and does what is due by the clock."""
