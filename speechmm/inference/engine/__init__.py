"""Reading inputs and cutting them into batches: what recognition and alignment share."""
