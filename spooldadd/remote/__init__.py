"""Spools of other machines, reached by rsync: specs go there, finished records come back.

Only what `rsync` and `ssh` are for is left to them; the user's own configuration of ssh applies. In reading order:
`targets` says where a spool is, `rsync` runs the program and explains what it said, `manifest` lists the files of a record
that travels, `incoming` takes in those that arrived whole. `asking` finds out how a node stands, `pushing` brings specs
there, `collecting` fetches records, `uploading` sends this node's records to its master, `courier` is how a worker starts
it, `returning` sends the spec of a failed job back to its node.
"""
