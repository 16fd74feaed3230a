"""Pages in a real Chromium, and what they can do to a worker (make browser)."""
