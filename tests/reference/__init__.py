"""Plain implementations and formulas that the engines and figures are checked against."""
