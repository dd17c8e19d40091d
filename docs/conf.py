"""How Sphinx builds the documentation; `make docs` runs it."""

from __future__ import annotations

import fairsynth

project = "fairsynth"
author = "the fairsynth developers"
copyright = "the fairsynth developers"
version = release = fairsynth.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
# Links into other projects are made only where their inventories are at hand: building needs no network.
intersphinx_mapping = {}

source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "auto_examples/**/*.ipynb", "auto_examples/**/*.py", "sg_execution_times.rst"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

templates_path = ["_templates"]
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's own parameter lists say it
autodoc_class_signature = "mixed"
numpydoc_show_class_members = False
numpydoc_validation_checks = {"GL03"}
# What pydantic and scikit-learn add by themselves is not our documentation.
autodoc_default_options = {
    "exclude-members": "model_config, model_fields, model_computed_fields, model_post_init, "
    "get_metadata_routing, set_fit_request, set_transform_request, set_score_request",
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "download_all_examples": False,
    "show_memory": False,
    "reset_modules": (),
}

html_theme = "pydata_sphinx_theme"
html_title = "fairsynth"
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
