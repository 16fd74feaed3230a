"""The simulated log: a cluster in memory that does what Kafka does to those who read and write it, in virtual time.

One thread, one scheduler, and faults that are handed in: whoever makes it decides what goes wrong. It stands where `kafka` and
`embedded` stand, and is held to the same contract; stores on simulated disks go with it.
"""

from odradek_runtime.log.simulated.log import SimulatedLog

__all__ = ["SimulatedLog"]
