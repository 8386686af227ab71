"""What `status`, `explain`, `logs`, `wait` and the web page read. Writes nothing.

`tables` reads the small files of a record, `drops` knows which names in the root are specs, `jobs` finds and lists jobs.
They need the standard library only, and little of it, because `status` has to answer in a blink. `attempts` and
`output` look into one record; `waiting` and `ended` are the rules behind `explain`.
"""
