"""Small apps to read and run."""
