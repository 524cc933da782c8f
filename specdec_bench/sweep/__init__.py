"""Many cells: which there are, in what order they run, what is already done, and what comes out of all of them."""
