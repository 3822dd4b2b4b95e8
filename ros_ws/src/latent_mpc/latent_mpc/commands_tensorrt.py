"""``latent-mpc tensorrt check`` and ``tensorrt build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json

UNSUPPORTED_STATUS = 1

tensorrt = typer.Typer(name="tensorrt", help="Check a bundle's graphs against TensorRT's parser, and build engines from them.", no_args_is_help=True)

_Model = Annotated[Path, typer.Option(help="Model bundle.")]
_Precision = Annotated[str, typer.Option(help="fp32, fp16 or int8: of the graphs that the bundle has in it.")]
_Shapes = Annotated[str, typer.Option(metavar="N,H[,Z]", help="Candidates that are imagined at once, over how many steps, among how many zones.")]


@tensorrt.command()
def check(
    model: _Model,
    version: Annotated[str, typer.Option(help="TensorRT's version; 10.3 comes with JetPack 6.2, 10.13 with 7.1, 10.16 with 7.2.")] = "10.3",
    shapes: _Shapes = "300,10",
    as_exported: Annotated[
        bool, typer.Option("--as-exported", help="The graphs as they lie in the bundle, not as `tensorrt build` prepares them.")
    ] = False,
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the table to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """Every operator of every graph against TensorRT's operator list, without TensorRT; exit status 1 where one is not supported."""
    from dataclasses import asdict

    from latent_mpc.markdown_table import markdown_table
    from world_model.bundle import read_manifest
    from world_model.tensorrt.operator_list import TensorRtError, operator_list, parse_version
    from world_model.tensorrt.shapes import parse_shapes

    known = operator_list(parse_version(version))
    try:
        import onnx

        from world_model.tensorrt.build import onnx_files
        from world_model.tensorrt.check import check_graph
        from world_model.tensorrt.prepare import prepared
    except ModuleNotFoundError as error:
        raise TensorRtError(f"the check reads ONNX files: {error}; pip install onnx") from error

    asked = parse_shapes(shapes)
    steps = min(asked.steps, read_manifest(model).horizon or asked.steps)
    files, left = onnx_files(model)
    rows, changes = [], []
    for file in files:
        graph = onnx.load(file)
        ready, changed = (graph, []) if as_exported else prepared(graph, steps=steps, zones=asked.zones)
        rows += check_graph(file.name, ready, known)
        changes += [f"{file.name}: {change}" for change in changed]
    refused = [row for row in rows if row.refused]
    if json is not None:
        write_json(
            json, {"tensorrt": version, "list": known.label, "source": known.source, "rows": [asdict(row) for row in rows], "changes": changes}
        )
    typer.echo(
        markdown_table(
            ("graph", "operator", "times", "types", "TensorRT"),
            [[row.graph, row.path, str(row.count), row.types, row.refused or (f"yes; {row.note}" if row.note else "yes")] for row in rows],
        )
    )
    typer.echo(f"\nlist of TensorRT {known.label}, the newest that is not newer than {version}: {known.source}")
    for change in changes:
        typer.echo(f"prepared by `tensorrt build`: {change}")
    for file in left:
        typer.echo(f"not checked, for it is for the CPU alone: {file.name}")
    for row in refused:
        typer.echo(f"not supported: {row.graph}: {row.path} ({row.count} times): {row.refused}", err=True)
    if refused:
        raise typer.Exit(UNSUPPORTED_STATUS)
    typer.echo(f"every operator of {model} is supported, without a plugin")


@tensorrt.command()
def build(
    model: _Model,
    out: Annotated[Path, typer.Option(help="Folder for engines and timings.")],
    precision: _Precision = "fp32",
    shapes: _Shapes = "300,10",
    static: Annotated[bool, typer.Option("--static", help="No other number of candidates than N, as CUDA graphs want it.")] = False,
    print_trtexec: Annotated[
        bool, typer.Option("--print-trtexec", help="Write the prepared graphs and print the commands for trtexec; needs no TensorRT.")
    ] = False,
    version: Annotated[str, typer.Option(help="TensorRT's version, for --print-trtexec.")] = "10.3",
) -> None:
    """Build a strongly typed engine of each graph on the device that will run it; one that is off from ONNX Runtime is not kept."""
    from world_model.tensorrt.library import load_tensorrt
    from world_model.tensorrt.operator_list import TensorRtError, parse_version
    from world_model.tensorrt.shapes import parse_shapes

    asked = parse_shapes(shapes, static)
    if not print_trtexec:
        load_tensorrt()  # what is missing most often is said first
    try:
        from world_model.tensorrt.build import build as build_engines
        from world_model.tensorrt.build import commands
    except ModuleNotFoundError as error:
        raise TensorRtError(f"engines are built from ONNX files: {error}; pip install onnx") from error

    if print_trtexec:
        for line in commands(model, out, precision, asked, parse_version(version)):
            typer.echo(line)
        return
    build_engines(model, out, precision, asked, typer.echo)
