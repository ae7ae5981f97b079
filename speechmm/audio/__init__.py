"""Audio in, log-mel out: reading, features, normalisation, augmentation, pauses."""
