"""`heteroscale schema`: what the files may hold, for editors, programs and the documentation."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from heteroscale.cli.root import app
from heteroscale.config.crd import crd_text
from heteroscale.config.reference import reference
from heteroscale.config.schema import FILES, json_schema


@app.command()
def schema(
    kind: Annotated[
        str, typer.Argument(metavar=f"[{'|'.join(FILES)}]", help="Which file to describe.")
    ] = "services",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference page of all files instead.")
    ] = False,
    crd: Annotated[
        bool, typer.Option("--crd", help="Print the CustomResourceDefinition instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of one kind of file."""
    if markdown:
        print(reference(), end="")
    elif crd:
        print(crd_text(), end="")
    else:
        print(json.dumps(json_schema(kind), indent=2, ensure_ascii=False))
