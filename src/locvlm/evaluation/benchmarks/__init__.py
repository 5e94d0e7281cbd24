"""Questions and how their answers are scored, one module for each benchmark."""
