"""Trained models at work: search, transcripts, alignments."""
