"""What a value may be, and how an error in one is worded."""
