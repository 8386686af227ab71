"""The daemon's mail, from a finished job to a server that took the letter. Reading order:

| module | responsibility |
|---|---|
| `result` | the fields of a finished job that mail speaks of |
| `explain` | what an exit code, a signal or an outcome means, in a sentence. Pure |
| `traceback` | the last traceback in the end of a log, of several languages. Pure |
| `cause` | which failures are the same one. Pure |
| `redact` | hide what must not leave the node; shared with `spooldadd.erroremail` |
| `events` | what can be told, as plain values. Pure |
| `compose` | plain values in, a finished mail out. Pure but for reading templates |
| `flood` | which failures are mailed now, later together, or held back. Pure |
| `ledger` | keeps the state of `flood` in a directory that all processes of a node share |
| `letter` | what is handed over, and what came of it for each recipient. Pure |
| `transport` | hand one letter over: SMTP, LMTP, sendmail, a Maildir, a command, a webhook |
| `configured` | transports from the configuration |
| `outbox` | letters on disk, from before the first try until somebody took them or nobody will |
"""

from __future__ import annotations
