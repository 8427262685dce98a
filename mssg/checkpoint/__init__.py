"""Snapshots with their headers, and other people's files read as data."""
