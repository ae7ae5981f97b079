"""Files: written whole, read as text, listed, and known to be up to date."""
