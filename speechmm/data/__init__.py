"""Corpora to batches: parsers, manifests, feature store, bucketing."""
