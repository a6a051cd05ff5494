"""Grids: many settings at once, planned into few programs and run by any number of processes."""
