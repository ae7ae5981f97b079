"""Augments training batches: one pipeline whose order is said once, one file for each change."""

from speechmm.training.augmentation.pipeline import AugmentationConfig, Augmented, Augmenter

__all__ = ["AugmentationConfig", "Augmented", "Augmenter"]
