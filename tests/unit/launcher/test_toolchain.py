"""Finding what the suite runs on: versions, jars and virtual environments are judged by what they are, not by name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from emulator import toolchain
from emulator.console import SuiteError


def make_java(home: Path, version: str) -> Path:
    """A Java home whose release file tells its version, so nothing needs to be started."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.touch()
    (home / "release").write_text(f'IMPLEMENTOR="Somebody"\nJAVA_VERSION="{version}"\n')
    return java


def make_venv(root: Path, *, made_in: Path, version: str = "3.12.1", name: str = "python3.12") -> None:
    programs = root / "venv" / "bin"
    programs.mkdir(parents=True)
    for program in ("python", name):
        (programs / program).write_text(f"#!/bin/sh\necho Python {version}\n")
        (programs / program).chmod(0o755)
    (programs / "activate").write_text(f'VIRTUAL_ENV="{made_in / "venv"}"\n')


def test_a_java_that_is_too_old_is_passed_over_for_a_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = make_java(tmp_path / "17", "17.0.9"), make_java(tmp_path / "25", "25.0.3")
    monkeypatch.setattr(toolchain, "java_candidates", lambda: iter([old, new]))

    assert toolchain.find_java() == toolchain.Tool(new, "25.0.3")


def test_no_java_is_better_than_one_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_java(tmp_path / "17", "17.0.9")
    monkeypatch.setattr(toolchain, "java_candidates", lambda: iter([old, tmp_path / "missing" / "bin" / "java"]))

    assert toolchain.find_java() is None


def test_java_home_comes_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = make_java(tmp_path / "mine", "25")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "mine"))

    assert next(iter(toolchain.java_candidates())) == java


def test_the_virtual_environment_names_the_runtime(tmp_path: Path) -> None:
    make_venv(tmp_path, made_in=tmp_path)

    found = toolchain.find_venv(tmp_path)

    assert found == toolchain.Tool(tmp_path / "venv" / "bin" / "python", "3.12.1")


def test_a_copied_virtual_environment_is_not_taken_for_one_made_here(tmp_path: Path) -> None:
    make_venv(tmp_path, made_in=Path("/somewhere/else"))

    assert toolchain.find_venv(tmp_path) is None


@pytest.mark.parametrize(("version", "name"), [("3.10.13", "python3.10"), ("3.15.0", "python3.15")])
def test_a_virtual_environment_of_an_unsupported_python_is_not_used(tmp_path: Path, version: str, name: str) -> None:
    make_venv(tmp_path, made_in=tmp_path, version=version, name=name)

    assert toolchain.find_venv(tmp_path) is None


def test_a_virtual_environment_without_the_name_firebase_tools_calls_is_not_used(tmp_path: Path) -> None:
    make_venv(tmp_path, made_in=tmp_path, name="python3")

    assert toolchain.find_venv(tmp_path) is None


def test_a_stamp_holds_until_what_it_was_made_from_changes(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("a")
    (tmp_path / toolchain.STAMP).write_text(toolchain.digest(lock, also="20"))

    assert toolchain.stamped(tmp_path, toolchain.digest(lock, also="20"))
    assert not toolchain.stamped(tmp_path, toolchain.digest(lock, also="22"))
    lock.write_text("b")
    assert not toolchain.stamped(tmp_path, toolchain.digest(lock, also="20"))


def test_a_manifest_wraps_its_lines_as_java_wants_and_loses_nothing() -> None:
    target = "file:/" + "a-very-long-folder/" * 20 + "real.jar"

    text = toolchain.manifest_text({"Class-Path": target})

    lines = text.split("\r\n")
    assert all(len(line.encode()) <= 72 for line in lines)
    assert text.replace("\r\n ", "").splitlines()[1] == f"Class-Path: {target}"


def test_the_jar_that_points_to_the_real_one_survives_spaces_in_the_path(tmp_path: Path) -> None:
    jar = tmp_path / "pointing.jar"

    toolchain.write_pointing_jar(jar, target=Path("/opt/cloud sdk/real.jar"), main_class="a.Main")

    with zipfile.ZipFile(jar) as archive:
        assert archive.namelist() == ["META-INF/MANIFEST.MF"]
        assert "Class-Path: file:/opt/cloud%20sdk/real.jar" in archive.read("META-INF/MANIFEST.MF").decode()
    assert toolchain.main_class_of(jar) == "a.Main"


def test_a_pointing_jar_is_written_again_when_the_real_one_moves(tmp_path: Path) -> None:
    jar = tmp_path / "pointing.jar"
    toolchain.write_pointing_jar(jar, target=Path("/old.jar"), main_class="a.Main")

    toolchain.write_pointing_jar(jar, target=Path("/new.jar"), main_class="a.Main")

    with zipfile.ZipFile(jar) as archive:
        assert "file:/new.jar" in archive.read("META-INF/MANIFEST.MF").decode()


def test_a_cloud_sdk_without_its_emulators_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "platform" / "cloud-firestore-emulator").mkdir(parents=True)
    (tmp_path / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar").touch()
    monkeypatch.setattr(toolchain, "cloud_sdk_roots", lambda: [tmp_path])

    assert toolchain.find_sdk_jars() is None  # the Pub/Sub one is missing


def test_a_failing_installer_shows_the_end_of_its_log_and_where_it_is(tmp_path: Path) -> None:
    log = tmp_path / "npm.log"

    with pytest.raises(SuiteError) as failure:
        toolchain.run_installer(["sh", "-c", "echo no space left; exit 3"], "npm ci", cwd=tmp_path, log=log)

    assert "npm ci failed (exit code 3)" in str(failure.value)
    assert "no space left" in str(failure.value)
    assert str(log) in str(failure.value)


def test_an_installer_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="npm ci could not be started"):
        toolchain.run_installer(["no-such-npm"], "npm ci", cwd=tmp_path, log=tmp_path / "log")
