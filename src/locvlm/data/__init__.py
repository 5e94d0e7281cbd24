"""Samples from annotations and conversations, as shards, streams and batches."""
