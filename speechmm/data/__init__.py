"""Corpora to batches: manifests, feature store, bucketing."""
