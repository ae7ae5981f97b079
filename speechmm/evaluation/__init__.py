"""Scores transcripts and alignments: error rates, boundary errors and the reports that show them."""
