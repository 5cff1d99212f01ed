"""What makes a host unfit, found before anything on it is changed."""
