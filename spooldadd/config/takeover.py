"""The configuration's table about other nodes that share a spool."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic import WithJsonSchema as Shown

from spooldadd.spec.fields import Duration
from spooldadd.spec.models import Table
from spooldadd.units import DURATION_PATTERN

Silence = Annotated[
    Literal["never"] | Duration,
    Shown(
        {
            "title": "duration",
            "anyOf": [{"const": "never"}, {"type": "string", "pattern": DURATION_PATTERN}, {"type": "number", "minimum": 0}],
        }
    ),
]


class Takeover(Table):
    """When the jobs of another node that has fallen silent are brought back by this one."""

    after_s: Silence = Field(
        default=180.0,
        alias="after",
        description="On a spool shared by nodes: how long another one must be silent, and never less than three of its "
        'heartbeats; `"never"` leaves its jobs to `spooldadd recover --node`.',
    )
