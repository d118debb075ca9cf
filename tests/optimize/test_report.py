"""The files of a report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from modelport.optimize.repeat import read_report
from modelport.optimize.report import write_report

from .reports import made_up

PROGRAM = """
import sys
from pathlib import Path
from modelport.optimize.repeat import read_report
from modelport.optimize.report import write_report

write_report(Path(sys.argv[2]), read_report(sys.argv[1]))
"""


def test_they_are_utf_8_whatever_the_systems_encoding_is(tmp_path: Path) -> None:
    write_report(tmp_path / "here", made_up())
    # ASCII, as a system may have another code page.
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "here"), str(tmp_path / "there")]
    subprocess.run(command, env=os.environ | locale, check=True)
    assert read_report(tmp_path / "there") == made_up()
    for name in ("report.json", "report.html"):
        text = (tmp_path / "there" / name).read_text("utf-8")
        assert text == (tmp_path / "here" / name).read_text("utf-8")
    assert "\N{MULTIPLICATION SIGN}" in text
