"""Studies: settings, their loading and checking, the run, and the folder of results."""
