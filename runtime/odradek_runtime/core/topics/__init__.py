"""What the topics take: which there are, how large a record may be, what brokers refuse. Asked wherever a record is made."""
