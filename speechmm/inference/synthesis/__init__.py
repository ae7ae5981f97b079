"""Speaks texts with a trained model."""
