"""Many runs: rows, intervals, speedups, what may be claimed."""
