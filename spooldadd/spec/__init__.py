"""The TOML job spec: keys, defaults, limits; text in, `Spec` or every error out. Pure.

`models` holds one class for each table, and what a key may hold is said in `fields`. `parse` reads the bytes of a TOML
file, `parse_script` those of a script with inline metadata; `peek` and `peek_script` look only at what queueing needs.
`schema` and `describe` say the same as the models to editors and to the reference pages. Another table is another model:
nothing else in here knows the keys.
"""

from spooldadd.spec.models import Keep, Limits, Retry, Run, Script, Spec
from spooldadd.spec.peeking import Peek, has_whole_block, peek, peek_script
from spooldadd.spec.reading import MAX_SPEC_BYTES, InvalidSpec, parse, parse_file, parse_script
from spooldadd.spec.schema import KeyDescription, describe, schema
from spooldadd.spec.script import script_toml

__all__ = [
    "MAX_SPEC_BYTES",
    "InvalidSpec",
    "Keep",
    "KeyDescription",
    "Limits",
    "Peek",
    "Retry",
    "Run",
    "Script",
    "Spec",
    "describe",
    "has_whole_block",
    "parse",
    "parse_file",
    "parse_script",
    "peek",
    "peek_script",
    "schema",
    "script_toml",
]
