"""Text in, token ids out: normalizers, tokenizers, phones, word n-grams."""
