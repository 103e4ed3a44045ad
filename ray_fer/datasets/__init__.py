"""Readers and generators that yield a manifest: one row per clip."""
