"""Schemes that write locations as text, and the parser that reads them back."""
