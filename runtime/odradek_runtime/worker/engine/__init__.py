"""The engine: what is fetched and asked becomes events for the machine, in fair shares, and epochs become transactions."""
