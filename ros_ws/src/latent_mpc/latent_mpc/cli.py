"""The command line: ``latent-mpc``.

Exit status 0 is success, 1 a task that failed, 2 bad input with one line on stderr. Each command imports what it runs only when it runs, so that
``--help`` is quick and a slim installation does without the training libraries.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

FAILED_STATUS, BAD_INPUT_STATUS = 1, 2

app = typer.Typer(
    name="latent-mpc",
    help="A robot arm reaches a goal that it is shown as a picture.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# typer reads these at run time, where Python 3.10 cannot look into `X | None` of a string.
JsonOption = Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")]  # noqa: UP045


@app.callback()
def _root() -> None:
    """Keeps commands named even while there is only one."""


@app.command("check-bag")
def check_bag(
    bag: Annotated[Path, typer.Argument(help="Bag folder.")],
    urdf: Annotated[Path, typer.Option("--urdf", help="URDF whose <limit> tags hold position, velocity, acceleration and jerk limits.")],
    topic: Annotated[Optional[str], typer.Option("--topic", help="Command topic; by default the controller's that the bag holds.")] = None,  # noqa: UP045
    json: JsonOption = None,
) -> None:
    """Check the commands in a bag against the limits in a URDF, knowing nothing of who made them."""
    from dataclasses import asdict

    from latent_mpc.check_bag import check_bag as check
    from latent_mpc.check_bag import summary

    report = check(bag, urdf, topic)
    if json is not None:
        write_json(json, asdict(report))
    typer.echo(summary(report))
    if report.total:
        raise typer.Exit(FAILED_STATUS)


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    """Write ``results`` so that a reader sees the whole file or none of it.

    Raises:
        OSError: the file cannot be written.
        ValueError: a value is NaN or infinite, which JSON cannot say.
    """
    from json import dumps

    text = dumps(results, indent=2, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def run(arguments: Sequence[str]) -> int:
    """Run one command; bad input (``ValueError``, ``OSError``, wrong usage) becomes one line on stderr and status 2."""
    try:
        status = app(list(arguments), prog_name="latent-mpc", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except typer.TyperException as error:
        reason = error.format_message()
    except typer.Abort:
        reason = "interrupted"
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    except ValueError as error:
        reason = str(error)
    sys.stderr.write(f"latent-mpc: error: {' '.join(reason.split())}\n")
    return BAD_INPUT_STATUS


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
