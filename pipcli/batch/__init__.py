"""Whole runs: which files become which, and restoring them one after the other."""
