"""What flows through a run, as plain data: no behaviour, engine, Hydra or torch."""
