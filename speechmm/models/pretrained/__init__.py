"""Encoders that others have trained, read from files: Whisper's, and those of the wav2vec 2.0 family."""
