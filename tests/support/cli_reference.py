"""Renders the command line's page: `PYTHONPATH=tests python -m support.cli_reference`."""

import click

from fleetward.programs.cli.main import cli

_HEAD = """\
# Command line

`fleetward [--data DIR | --server URL] COMMAND …`. With `--data` the command finds address and token in
the platform's folder; from afar give `--server` (or `FLEETWARD_SERVER`), `--ca-file` and the token in
`FLEETWARD_TOKEN`.

Commands that print facts take `--json`: one JSON value, or one object a line. An error is one line on
standard error, with what to do next, and exit code 1; with `--json` it
is `{"error": {"code", "message", "hint", "cause"}}`.
"""


def render() -> str:
    """Return the page as the commands describe themselves."""
    return _HEAD + "".join(_section(cli, "fleetward", click.Context(cli, info_name="fleetward")))


def _section(group: click.Group, path: str, context: click.Context) -> list[str]:
    lines: list[str] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            rest = _section(command, f"{path} {name}", inner)
            if not command.invoke_without_command:
                lines += rest
                continue
        else:
            rest = []
        usage = " ".join([f"{path} {name}", *command.collect_usage_pieces(inner)])
        lines.append(f"\n## `{path} {name}`\n\n{(command.help or '').strip()}\n\n```\n{usage}\n```\n")
        rows = [record for one in command.get_params(inner) if (record := one.get_help_record(inner))]
        if rows:
            lines.append("\n| option | meaning |\n|---|---|\n")
            lines += [f"| `{left.replace('|', '/')}` | {' '.join(right.split())} |\n" for left, right in rows]
        lines += rest
    return lines


if __name__ == "__main__":
    print(render(), end="")  # noqa: T201 - the page is its output
