"""The joint speech-text model: tensors in, tensors out."""
