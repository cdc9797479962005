"""What the demo model learns to look past and to refuse, and others of both to evaluate it with."""
