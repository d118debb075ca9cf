"""Write docs/reference/cli.md from the commands' own --help; a test checks that it is up to date."""

from __future__ import annotations

from pathlib import Path

import click
from click.testing import CliRunner

from modelport.cli.main import VERBS, load, root

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
HEAD = """# Command line

Results go to standard output, everything else to standard error. `--json` prints the object that the
table is drawn from. `NO_COLOR` is respected.

| exit code | meaning |
|--:|---|
| 0 | done, and the answer is yes |
| 1 | done, and the answer is no: a verification failed |
| 2 | wrong usage |
| 3 | a bad bundle or input |
| 4 | not possible here; the message says what is missing |
| 130 | interrupted |

## Settings

Every option can be set for a project or a machine. A flag wins over the environment, the environment over
the project's file, the file over the built-in default; `modelport doctor` shows what is set and where.

- environment: `MODELPORT_SERVE_PORT=9000` is `modelport serve --port 9000`
- `modelport.toml` in the current directory, or `[tool.modelport]` in `pyproject.toml`, with a table for each
  verb: `[serve]`, then `port = 9000`. A key that does not exist is an error with the nearest spelling.

This page is written by `scripts/cli_reference.py` from the commands' own help.
"""


def help_of(*words: str) -> str:
    """What `modelport WORDS --help` prints."""
    result = CliRunner().invoke(root, [*words, "--help"], prog_name="modelport", terminal_width=100)
    if result.exit_code:
        raise click.ClickException(result.output)
    return result.output.rstrip()


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## modelport", "", "```", help_of(), "```"]
    for verb in VERBS:
        parts += ["", f"## modelport {verb}", "", "```", help_of(verb), "```"]
        command = load(verb)
        for sub in command.commands if isinstance(command, click.Group) else ():
            parts += ["", f"### modelport {verb} {sub}", "", "```", help_of(verb, sub), "```"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
