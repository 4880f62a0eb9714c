from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "sklearn", "pandas", "transformers", "starlette", "scipy", "pyarrow", "matplotlib")


def _loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(m for m in {HEAVY!r} if m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _loaded_by("import proteus_router") == set()


def test_importing_the_router_needs_numpy_alone() -> None:
    assert _loaded_by("from proteus_router import Router") == set()


def test_the_route_command_loads_no_training_code() -> None:
    assert _loaded_by("import proteus_router.cli.route") == set()


def test_the_gateway_needs_no_training_stack() -> None:
    loaded = _loaded_by("import proteus_router.serving.runtime, proteus_router.serving.provider")
    assert loaded == {"starlette"}


def test_the_serve_command_loads_the_gateway_only_when_it_serves() -> None:
    assert _loaded_by("import proteus_router.cli.serve, proteus_router.cli.config") == set()
