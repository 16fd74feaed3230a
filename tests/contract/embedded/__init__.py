"""What the embedded log promises beyond the port: its folder, its encoding, crashes, full disks, cleaning."""
