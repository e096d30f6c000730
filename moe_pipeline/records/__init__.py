"""Every JSON file that moe writes, as strict frozen records."""
