"""What the type checkers must say of programs written against the public API."""
