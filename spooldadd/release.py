"""Which release this is. A module of its own, so that nobody has to import the package's front for it."""

__version__ = "0.1.0"
