"""What a value may be, in words, and what is said of one that is not."""
