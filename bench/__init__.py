"""What odradek's speed is measured with: the same work done by odradek and by its peers, in one run, on one broker."""
