"""Transcripts beside recordings: tables, text files, and which audio they mean."""
