"""Reports on a training, keeps its files, and ends it: one file a callback."""
