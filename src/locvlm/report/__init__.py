"""Results as pictures, tables and one HTML page."""
