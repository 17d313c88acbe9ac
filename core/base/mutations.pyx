"""Safeguards that tests switch off one at a time, by name."""
