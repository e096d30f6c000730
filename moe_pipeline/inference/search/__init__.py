"""Finding an expert's classes in a scan without a human."""
