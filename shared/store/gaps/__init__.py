"""What was missed: accounts' rhythms, walks over their lists, watched registrations."""
