"""Sphinx's settings: `make docs` builds these pages, strictly."""

project = "specdec_bench"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "specdec_bench"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_copyright = False
exclude_patterns = ["_build"]
nitpicky = True
