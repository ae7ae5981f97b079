"""Transcripts that people keep beside recordings: tables, sidecar files, and which audio they mean."""
