"""The program `fleetward`, and `python -m fleetward`: the command line, and the agent's own way in.

An agent stays in memory, on small devices: it does not load what only the command line needs.
"""

import sys

from fleetward.programs.agent.entry import parse_run


def main() -> None:
    """Run the agent, or else the command line."""
    run = parse_run(sys.argv[1:])
    if run is None:
        from fleetward.programs.cli.main import main as run_command_line  # noqa: PLC0415 - see above

        run_command_line()
        return
    from fleetward.programs.agent.run import run_agent  # noqa: PLC0415 - the command line need not load it

    try:
        sys.exit(run_agent(run.config, degraded=run.is_degraded))
    except Exception as error:  # noqa: BLE001 - told as every command's is; what is no error of ours is raised
        from fleetward.programs.cli.main import end_with  # noqa: PLC0415 - see above

        end_with(error)


if __name__ == "__main__":
    main()
