"""The programs are read by the type checkers; they are not tests themselves."""

collect_ignore = ["programs"]
