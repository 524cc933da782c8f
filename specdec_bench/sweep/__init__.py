"""Plans the cells of a sweep, runs those that are not done, in order, and shows the results of all."""
