"""Sphinx: the pages of this folder and the docstrings of the Python interface, as HTML that needs no network."""

from hrpro_pipeline._version import __version__

project = "hrpro"
release = version = __version__
project_copyright = "the authors of hrpro"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"hrpro {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = html_show_sourcelink = False
# System fonts, and no request to anyone.
html_theme_options = {"top_of_page_buttons": []}

default_role = "code"  # single backticks of docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 90
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# With -n each name of ours must be found; those of other libraries would need the network. Settings have a page of
# their own, and networks are for readers of the code.
nitpick_ignore_regex = [
    ("py:.*", r"(?!hrpro_pipeline\.).*"),
    ("py:class", r"hrpro_pipeline\.(configs\.schema|models\.(snippet|instance|calibration|pyramid))\..*"),
]
