"""Error rates, boundary errors and the reports that show them."""
