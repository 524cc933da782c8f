"""Pure functions from request records to numbers; one file a family. METRICS definitions are in `definitions`."""
