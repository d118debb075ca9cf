"""`modelport VERB`: the table of verbs, and the one place where errors become exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import config
from .._version import __version__
from ..errors import InputError, ModelportError, did_you_mean

# Verb -> its one line of help. Verbs are imported when they are called, so that --help stays quick.
VERBS = {
    "demo": "Serve the digits model that ships with Modelport, and open its page.",
    "fit-steps": "Find the steps that a preprocessing function is, by equality of bytes.",
    "pack": "Pack a trained model with its pre- and post-processing into a bundle.",
    "inspect": "Show what a bundle holds and how it came to be.",
    "verify": "Replay a bundle's golden cases; say where answers diverge.",
    "predict": "Answer files from the shell.",
    "track": "Follow the objects of a video or stream; count them at lines and in zones.",
    "evaluate": "Say how good a bundle is on data with known answers.",
    "optimize": "Search for a smaller and faster form of a bundle that is still right.",
    "repeat": "Measure a candidate of an optimize report again.",
    "bench": "Measure a bundle here: latency, throughput, stages, operators.",
    "serve": "Serve bundles over HTTP and gRPC, with a page for each.",
    "rollout": "Show and change which version of a model gets the traffic.",
    "keys": "Add, list and revoke the keys of a server's callers.",
    "doctor": "Show this machine, the runtimes and frameworks found, and what is missing.",
}

EXIT_CODES = """
\b
Exit codes: 0 yes; 1 the answer is no; 2 wrong usage; 3 a bad bundle or
input; 4 not possible here; 130 interrupted.
"""


class Verbs(click.Group):
    """Commands found by name in the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        return load(name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output left (`| head`): that is no error, and nothing more can be written.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS:
            near = did_you_mean(args[0], VERBS, otherwise="")
            ctx.fail(f"no verb {args[0]!r}" + (f"; {near}" if near else ""))
        name, command, rest = super().resolve_command(ctx, args)
        settings = config.project_settings(Path.cwd())
        if name:
            config.check_known(settings, VERBS, name, options_of(name))
        ctx.default_map = settings.verbs
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def load(verb: str) -> click.Command:
    """A verb's command; imports its module."""
    command: click.Command = importlib.import_module(f"modelport.cli.{verb.replace('-', '_')}").command
    return command


def options_of(verb: str) -> list[str]:
    """The names of a verb's options, as files and the environment set them."""
    return [str(p.name) for p in load(verb).params if isinstance(p, click.Option) and p.name != "help"]


CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": config.PREFIX}


@click.command(cls=Verbs, epilog=EXIT_CODES, context_settings=CONTEXT)
@click.version_option(__version__, message="modelport %(version)s")
def root() -> None:
    """Take a trained model to every place it has to run, with proof that the answers stay the same."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with its code."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        result: Any = root.main(args=args, prog_name="modelport", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except ModelportError as problem:
        report(problem)
        return problem.exit_code
    except click.ClickException as problem:
        problem.show()
        return problem.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except OSError as problem:
        # The disk's own no (full, read-only, no right): the user's to see, and no bug.
        report(InputError(f"{problem.strerror or problem}: {problem.filename or 'no file named'}"))
        return InputError.exit_code


def report(problem: ModelportError) -> None:
    """An error on standard error: what happened, where, and what to do."""
    where = f" at `{problem.at}`" if problem.at else ""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {problem.message}{where}", err=True)
    if problem.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {problem.hint}", err=True)
