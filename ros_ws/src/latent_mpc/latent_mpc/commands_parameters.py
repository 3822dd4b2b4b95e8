"""``latent-mpc parameters``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def parameters(
    page: Annotated[Optional[Path], typer.Option(help="Write the reference page to this file instead of printing it.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """The parameters of every node: type, default, range, meaning, and whether they may be set while it runs."""
    from latent_mpc.parameter_page import parameter_page

    text = parameter_page()
    if page is None:
        typer.echo(text)
    else:
        page.write_text(text)
        typer.echo(f"wrote {page}")
