"""The experiment's schema, what makes two engines the same, and where checkpoints are."""
