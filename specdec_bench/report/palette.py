"""Colours, line patterns and markers of the plots; report/html/page.css and charts.js have the same ones.

Readers who confuse red and green tell the colours apart: they are Okabe and Ito's, darkened until each has a contrast
of at least 3 to 1 with white. Marker and pattern say the same as the colour does.
"""

COLORS = ("#0072b2", "#c74f00", "#00815d", "#a8488d", "#8a6d00", "#1a1a8c", "#7a3b1e", "#4c7a00")
PLAIN = "#6b6b6b"
"""Of plain decoding, and of everything that is no method."""
MARKERS = "os^Dv<>P"
DASHES = ("-", "--", ":", "-.")
