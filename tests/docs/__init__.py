"""The pages of docs/ that a user follows, followed: their files are written, their commands run, their output compared."""
