"""Sphinx's settings: `make docs` builds these pages, strictly."""

project = "specdec_bench"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "specdec_bench"
exclude_patterns = ["_build"]
nitpicky = True
