"""One parser file per corpus, each ending in validated lhotse cuts."""
