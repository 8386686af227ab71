"""What one user of a spool for many users could try against another, against root, and against the worker.

Each attack is tried for real: by a process of that user, through files and commands, on one spool of one worker of root. It
says what it saw; where it gets what it should not, it fails. One command runs all of them and prints the table of
`docs/attacks.md`:

    .venv/bin/python -m tests.faults.attacks
"""
