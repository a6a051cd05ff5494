"""Killing a study at random moments and comparing what comes out with a run in peace."""
