"""What a worker is told: settings, shares of memory, options of the client, secrets; and the file that says how it is reached."""
