"""Operations: what a handler can ask for, one file a kind, and the table of them all.

Stands between a handler that asks and the epoch: a kind says what its entry in the journal is, what begins when its segment has
become part of the epoch, and what it means that its timer is due.
"""
