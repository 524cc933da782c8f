"""What leaves an archive for other people's storage and trackers."""
