"""Readers of other people's file formats; each yields samples."""
