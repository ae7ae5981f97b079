"""What was said: search, confidences, transcripts."""
