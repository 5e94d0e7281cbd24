"""Encoder, adapter and language model, joined in one network."""
