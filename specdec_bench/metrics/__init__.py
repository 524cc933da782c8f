"""Pure functions from request records to numbers, one file a family. `definitions` has the formulas."""
