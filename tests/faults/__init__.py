"""Real workers under real faults: what an auditor, who knows the truth from the file, finds in the log afterwards."""
