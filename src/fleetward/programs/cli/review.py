"""`fleetward review`: access reviews."""

from pathlib import Path
from typing import Any

import click

from fleetward.base.files import write_atomically
from fleetward.base.terminal import say
from fleetward.programs.cli.client import connect
from fleetward.programs.cli.output import json_option, print_facts, print_json, print_table

_COLUMNS = {
    "id": "Review",
    "title": "Title",
    "state": "State",
    "due_at": "Due",
    "progress": "Decided",
}
_ITEM_COLUMNS = {
    "grant_id": "Grant",
    "operator": "Operator",
    "role": "Role",
    "group": "Group",
    "why": "Use",
    "proposal": "Proposed",
    "decision": "Decided",
    "decided_by": "By",
    "outcome": "Outcome",
}


@click.group()
def review() -> None:
    """Access reviews: is every right still needed?"""


@review.command()
@click.argument("title")
@click.option("--due-in", default="14d", show_default=True, help="When it is to be closed, such as 7d.")
@json_option
@click.pass_context
def start(ctx: click.Context, title: str, due_in: str, as_json: bool) -> None:
    """Begin a review of every grant there is now; unused ones are proposed for removal."""
    _show(connect(ctx).post("/reviews", {"title": title, "due_in": due_in}), as_json=as_json)


@review.command()
@click.argument("review_id", metavar="[REVIEW]", required=False)
@click.option("--evidence", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the whole review, with its audit entries, to a file.")  # fmt: skip
@json_option
@click.pass_context
def show(ctx: click.Context, review_id: str | None, evidence: Path | None, as_json: bool) -> None:
    """Show REVIEW with every grant it is about; without it, list the reviews."""
    api = connect(ctx)
    if review_id is None:
        found = api.get("/reviews")
        if as_json:
            print_json(found)
        else:
            rows = [{**one, "progress": _progress(one)} for one in found]
            print_table(rows, _COLUMNS, empty="No reviews yet. Begin one: fleetward review start TITLE")
        return
    if evidence is not None:
        write_atomically(evidence, api.get_bytes(f"/reviews/{review_id}/evidence"))
    _show(api.get(f"/reviews/{review_id}"), as_json=as_json)


@review.command()
@click.argument("review_id", metavar="REVIEW")
@click.argument("grant_id", metavar="GRANT")
@click.argument("decision", type=click.Choice(["keep", "remove"]))
@click.option("--note", default="", help="Why; goes into the evidence.")
@json_option
@click.pass_context
def decide(
    ctx: click.Context, review_id: str, grant_id: str, decision: str, note: str, as_json: bool
) -> None:
    """Decide over GRANT; it is applied when REVIEW closes."""
    body = {"decision": decision, "note": note}
    item = connect(ctx).post(f"/reviews/{review_id}/items/{grant_id}", body)
    if as_json:
        print_json(item)
    else:
        say(f"{item['operator']}'s {item['role']} in {item['group']}: {item['decision']}")


@review.command()
@click.argument("review_id", metavar="REVIEW")
@json_option
@click.pass_context
def close(ctx: click.Context, review_id: str, as_json: bool) -> None:
    """Close REVIEW and remove the grants that were decided to go."""
    _show(connect(ctx).post(f"/reviews/{review_id}/close"), as_json=as_json)


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    facts = {heading: found.get(key) for key, heading in _COLUMNS.items() if key != "progress"}
    print_facts({**facts, "Decided": _progress(found)})
    print_table(found["items"], _ITEM_COLUMNS, empty="No grants: there was nothing to review.")


def _progress(found: dict[str, Any]) -> str:
    text = f"{found['decided']} of {found['total']}"
    return f"{text}, overdue" if found["overdue"] else text
