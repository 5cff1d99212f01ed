"""What a host answers about itself: pyinfra facts, one shell round trip each."""
