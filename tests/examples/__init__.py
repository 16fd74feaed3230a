"""The programs of examples/, started by the two lines at their heads, and killed in the middle."""
