"""Command line: arguments in, one call, text out."""
