"""Whole runs: which files become which, which of them are done already, and restoring the rest."""
