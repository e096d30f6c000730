"""The same units of work on this machine, on SLURM, on Ray; merged from files, never from a scheduler's memory."""
