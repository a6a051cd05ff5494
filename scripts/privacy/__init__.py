"""Accuracy against privacy and against bits per number, for class tables and public scores."""
