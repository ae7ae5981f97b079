"""Text in, token ids out: normalizers, tokenizers, phonemes."""
