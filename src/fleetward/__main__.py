"""`python -m fleetward` is the command line."""

from fleetward.programs.cli.main import main

main()
