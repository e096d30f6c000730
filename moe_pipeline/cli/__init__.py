"""The command line: parses, calls one function, prints. Everything heavy is imported inside the commands."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from moe_pipeline.cli import (
    data,
    models,
    prediction,
    prompts,
    report,
    reproduce,
    serving,
    system,
    training,
    weights,
)
from moe_pipeline.errors import PipelineError, in_words


class Interruptible(TyperGroup):
    """Commands that say after Ctrl-C what is kept, where they would only end."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            typer.echo(str(interrupt) or "interrupted; run the same command again to go on", err=True)
            raise typer.Exit(1) from interrupt


app = typer.Typer(
    cls=Interruptible,
    help="SAM-Med3D-MoE: finetune experts on a frozen 3D foundation model, and forget nothing.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for part in (system, data, training, prediction, report, models, serving):
    app.add_typer(part.app)
app.add_typer(weights.app, name="weights")
app.add_typer(models.experts, name="experts")
app.add_typer(prompts.app, name="prompts")
app.add_typer(reproduce.app, name="reproduce")


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Exit codes: 0 done, 1 a named error or any failed case, 2 wrong usage."""
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app(args=arguments)
    except PipelineError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        typer.echo(f"error: {in_words(error)}", err=True)
        sys.exit(1)


def _show_version(wanted: bool) -> None:
    if wanted:
        from moe_pipeline.records.run import package_version

        typer.echo(package_version())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    del version
