"""A simulation that can kill the engine anywhere: the real engine on a simulated log, clock and store, from one seed."""
