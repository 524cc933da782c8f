"""Makes run directories out of what other load generators wrote."""
