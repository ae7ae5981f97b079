"""Files: written whole, read as text, walked, and known to be up to date."""
