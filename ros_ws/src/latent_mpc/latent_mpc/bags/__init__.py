"""Recorded bags: storage files and folders, recording, playing, summaries, recovery."""
