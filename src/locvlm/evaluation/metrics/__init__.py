"""Metrics as pure functions of answers and truth; numpy only."""
