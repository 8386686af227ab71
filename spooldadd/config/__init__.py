"""The configuration of a worker: one TOML file, single keys overridden by the environment and by options.

`load` gives a `Config` that knows where each value came from; `effective` lists that for `spooldadd config`. Errors
have the quality of a spec's: all at once, with line and column, or with the name of the environment variable.
"""

from spooldadd.config.effect import Setting, effective
from spooldadd.config.loading import MAX_CONFIG_BYTES, InvalidConfig, find_config, load
from spooldadd.config.models import Config, default_jobs, default_node, default_work_dir
from spooldadd.config.overrides import OTHER_VARIABLES, PREFIX
from spooldadd.spec.describing import KeyDescription, describe_model, schema_of

__all__ = [
    "MAX_CONFIG_BYTES",
    "OTHER_VARIABLES",
    "PREFIX",
    "Config",
    "InvalidConfig",
    "Setting",
    "default_jobs",
    "default_node",
    "default_work_dir",
    "describe",
    "effective",
    "find_config",
    "load",
    "schema",
]


def describe() -> list[KeyDescription]:
    """List every key of the configuration for the reference."""
    return describe_model(Config)


def schema() -> dict[str, object]:
    """Give the JSON Schema (draft 2020-12) of the configuration as it stands in the file."""
    return schema_of(Config, "Configuration of a spooldadd worker")
