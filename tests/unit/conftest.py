"""What tests of several folders use: `made_runs`."""
