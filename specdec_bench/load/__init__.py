"""How requests are offered over time."""
