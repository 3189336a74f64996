"""The steps of the image, without an image: what the Dockerfile copies and runs, in a folder."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPO / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
#: of the package index where it cannot be reached
NO_INDEX = "No matching distribution found"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the second stage is copied from, made as the first stage makes it."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("image") / "opt"
    for names in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE):
        *files, target = names.split()
        for name in files:
            if (REPO / name).is_dir():
                shutil.copytree(REPO / name, source / target)
            else:
                shutil.copy(REPO / name, source / target / name)
    (step,) = re.findall(r"^RUN (.+)$", DOCKERFILE, flags=re.MULTILINE)
    step = step.replace("/opt/heteroscale", str(made)).replace("python -m venv", "PYTHON -m venv")
    step = step.replace("PYTHON", sys.executable, 1)
    done = subprocess.run(
        ["bash", "-c", step], cwd=source, capture_output=True, text=True, check=False
    )
    if NO_INDEX in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    return made


def test_everything_in_it_has_the_version_of_the_lock(image: Path) -> None:
    lock = (REPO / "requirements.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", lock, flags=re.MULTILINE))
    command = [str(image / "bin" / "pip"), "list", "--format=json", "--disable-pip-version-check"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {one["name"].lower().replace("_", "-"): one["version"] for one in json.loads(listed)}
    own = found.keys() - {"heteroscale", "pip", "setuptools"}
    assert "lightkube" in own
    assert {(name, found[name]) for name in own} <= locked


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_its_commands_find_all_that_they_need(image: Path, command: str, tmp_path: Path) -> None:
    missing = [
        part
        for option in ("services", "metrics", "cluster")
        for part in (f"--{option}", str(tmp_path / f"{option}.yaml"))
    ]
    run = [str(image / "bin" / "heteroscale"), command, *missing]
    done = subprocess.run(run, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, "services.yaml" in done.stderr) == (2, True), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_runs_as_nobody_who_has_a_name() -> None:
    (user,) = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, flags=re.MULTILINE)
    assert user == ("65532", "65532")
