"""Changes to training batches that keep or follow their texts."""
