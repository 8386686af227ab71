"""What a spec needs before its command can run: files, a Python environment, steps. A program, and a library.

Reading order: `models` (the three tables of the spec), `blobs` (what was fetched, by sha256), `records` and
`httpcache` (what is known about a URL), `download` and `transfers` (how bytes get here), `archives`, `links` and
`unpack` (what comes out of an archive), `files` (one `[[files]]` entry), `interpreters`, `tools`, `resolve`,
`environments` and `python` (the `[python]` table), `steps` (`[[build]]`), `plan` and `builder` (the program:
`python -m spooldadd.environment`).

`ready` stands apart: standard library only, it tells the supervisor in some 50 microseconds that nothing needs to be
built. `migrate` is pure: another way to write a spec. This file itself imports nothing, so that each module costs only
what it needs.
"""
