"""The package as a stranger meets it: light to import, whole in its files, true in its promises."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import fairsynth
from fairsynth import _lightgbm
from fairsynth.errors import MissingDependencyError

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "torch",
    "pandas",
    "polars",
    "pyarrow",
    "sklearn",
    "lightgbm",
    "fairlearn",
    "plotly",
    "scipy",
    "duckdb",
}


def imported_by(code: str) -> set[str]:
    """Return the top-level packages that a new Python has imported after `code`."""
    code += (
        "\nimport sys; print('\\n'.join({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_import_and_help_are_light() -> None:
    """No clock: what takes the time is what must not be imported."""
    assert not HEAVY & imported_by("import fairsynth")
    assert not HEAVY & imported_by("import fairsynth; fairsynth.Fairness()")
    shown = "import sys; sys.argv = ['fairsynth', '--help']\nfrom fairsynth.cli import main\n"
    assert not HEAVY & imported_by(shown + "try: main()\nexcept SystemExit as end: assert not end.code")


def test_the_default_is_fitted_and_drawn_from_without_torch() -> None:
    """To import it takes about as long as to fit a small table."""
    code = """
import sys
sys.path.insert(0, {helpers!r})
import fairsynth as fs
from toys import small_table
from fairsynth.generators import audit
audit.ROUNDS, audit.SURE_DRAWS = 1, 1
fs.AuditedTrees(seed=0).fit(small_table(100)).sample(10)
"""
    found = imported_by(code.format(helpers=str(ROOT / "tests" / "helpers")))
    assert "lightgbm" in found and "torch" not in found


def test_every_public_name_is_what_it_says() -> None:
    for name in fairsynth.__all__:
        value = getattr(fairsynth, name)
        assert value is not None
        if name != "__version__":
            assert value.__name__.removeprefix("fairsynth.") == name
            assert value.__doc__
    assert set(fairsynth.__all__) <= set(dir(fairsynth))
    with pytest.raises(AttributeError, match="no attribute 'Fairnes'"):
        fairsynth.Fairnes  # noqa: B018


def test_every_method_of_ours_is_at_the_top_under_its_name() -> None:
    from fairsynth.generators.registry import _BUILT_IN, get_generator_class

    for name, home in _BUILT_IN.items():
        if ".peers:" not in home:
            kind = get_generator_class(name)
            assert getattr(fairsynth, kind.__name__) is kind and kind.__name__ in fairsynth.__all__


def test_import_touches_no_random_state() -> None:
    code = """
import random, numpy as np, sklearn.ensemble, torch  # what others do to it at import is theirs
before = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()
import fairsynth
for name in fairsynth.__all__: getattr(fairsynth, name)
assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist())
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pins}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked_for() -> set[str]:
    given = project()
    wanted = [
        *given["dependencies"],
        # Peers are other people's programs to compare with: nothing here needs them, so nothing pins them.
        *(one for extra, some in given["optional-dependencies"].items() if extra != "peers" for one in some),
    ]
    names = {normal(re.match(r"[\w.-]+", one).group()) for one in wanted}  # type: ignore[union-attr]
    return names - {"fairsynth"}


def test_every_dependency_is_pinned_exactly() -> None:
    pins = constraints()
    assert asked_for() <= set(pins)
    assert pins["torch"] == "2.13.0"
    assert all(re.fullmatch(r"[\w.]+", version) for version in pins.values()), "local or ranged versions"


def test_no_dependency_has_a_licence_that_forbids_the_product() -> None:
    """SDV, CTGAN and RDT are under the Business Source License: peers to compare with, never needed."""
    needed = {normal(re.match(r"[\w.-]+", one).group()) for one in project()["dependencies"]}  # type: ignore[union-attr]
    assert not {"sdv", "ctgan", "rdt", "copulas"} & asked_for()
    extras = project()["optional-dependencies"]
    assert not [
        name for name, some in extras.items() if name != "peers" and any("peers" in one for one in some)
    ]
    assert "sdmetrics" not in needed


def test_what_is_imported_is_declared() -> None:
    """A stranger installs what pyproject asks for; an import of anything else would fail there."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    packages = {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {"fairsynth"}
    elsewhere = {"sklearn": "scikit-learn", "causallearn": "causal-learn", "PIL": "pillow"}
    distributions = {elsewhere.get(name) or normal(name) for name in packages}
    assert "numpy" in distributions
    used_if_there = {"umap", "torch-fidelity"}
    assert not distributions - used_if_there - asked_for()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the loader's search path is Linux's")
def test_lightgbm_loads_where_the_system_has_no_openmp(tmp_path: Path) -> None:
    """A broken libgomp stands before the system's, as if there were none; torch's takes its place."""
    (tmp_path / "libgomp.so.1").touch()
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    bare = subprocess.run([sys.executable, "-c", "import lightgbm"], capture_output=True, env=environment)
    if bare.returncode == 0:
        pytest.skip("this LightGBM brings its own OpenMP runtime along")
    code = "from fairsynth._lightgbm import load; assert load().Dataset"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_without_any_openmp_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library() -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(_lightgbm, "_imported", no_library)
    monkeypatch.setattr(_lightgbm, "_of_torch", list)
    with pytest.raises(MissingDependencyError, match="libgomp1"):
        _lightgbm.load()


def test_lightgbm_is_imported_in_one_place_only() -> None:
    found = [
        path.name
        for path in (ROOT / "src").rglob("*.py")
        if re.search(r"^(\s*import|from) lightgbm\b", path.read_text(encoding="utf-8"), re.M)
    ]
    assert found == ["_lightgbm.py"]


def test_the_entry_point_exists() -> None:
    module, _, function = project()["scripts"]["fairsynth"].partition(":")
    assert callable(getattr(import_module(module), function))


def test_texts_name_no_machine() -> None:
    """No path of one machine, and no host of a package registry, in what is delivered."""
    suspicious = re.compile(r"/(?:root|tmp|home|work|farm|opt)/[A-Za-z.]|index-url|find-links")
    names = [
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        ".ci/run",
        "README.md",
        "CONTRIBUTING.md",
        ".pre-commit-config.yaml",
    ]
    texts = [ROOT / name for name in names] + sorted((ROOT / "src").rglob("*.py"))
    found = [
        f"{path.relative_to(ROOT)}: {hit.group()}"
        for path in texts
        if (hit := suspicious.search(path.read_text("utf-8")))
    ]
    assert not found


def test_the_readme_lists_the_methods_there_are() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "readme_table.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_readme_commands_exist() -> None:
    """Every `make` target and every subcommand that the README and the guide name."""
    from typer.main import get_command

    from fairsynth.cli import app

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs" / "guide").glob("*.md")),
    ]:
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
        indented, inline = re.findall(r"^ {4}(\w.*)", text, re.M), re.findall(r"`([^`\n]+)`", text)
        code = "\n".join([*blocks, *indented, *inline])
        for line in re.findall(r"^make ([a-z -]+?)(?: *#.*)?$", code, re.M):
            assert set(line.split()) <= targets, f"{path.name}: make {line}"
        for name in re.findall(r"^fairsynth ([a-z]+)", code, re.M):
            assert name in commands, f"{path.name}: fairsynth {name}"
