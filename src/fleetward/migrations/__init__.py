"""Numbered schema steps, run by Alembic; in the package so that the wheel carries them.

The release before goes on working while a step runs on PostgreSQL, and after it, until its last process has
been replaced. So a step:

- makes tables, and columns that may be left out: nullable, or with a constant default;
- drops, renames and narrows nothing that the release before uses: that is for the release after;
- holds a lock on a table that is there for a moment only: it fills no rows, builds no index and checks no
  constraint on one. Rows are filled by the code that reads them, or in pages, a transaction each; an index is
  named in `BESIDE` and built beside the steps, `CONCURRENTLY`: see `beside`;
- waits for no lock for long, since whoever comes after waits behind it: `runner` gives up and tries again;
- may run twice.

`tests/migrations/test_upgrade_under_load.py` reads each step for this, and runs all while the release before
writes.
"""
