"""Programs that are not tests: their logic."""
