"""What an operator can order: positions moved, ranges delivered again, and how these are planned and told."""
