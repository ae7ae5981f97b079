"""Reads inputs and cuts them into batches: what recognition and alignment share."""
