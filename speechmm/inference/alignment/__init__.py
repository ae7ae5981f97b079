"""Aligns texts to speech and verifies them: when each word was said, and whether it was."""
