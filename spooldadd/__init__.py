"""spooldadd: drop a TOML spec into a directory, find it in `done/` or `failed/` with its logs and the reason."""

__version__ = "0.1.0"
