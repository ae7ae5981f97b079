"""When each word and character of a given text was said, and whether the text was said at all."""
