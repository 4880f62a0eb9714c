from __future__ import annotations

import subprocess
import sys


def test_the_loop_needs_numpy_alone() -> None:
    script = (
        "import sys, proteus_router.control\n"
        "heavy = ('torch', 'sklearn', 'pandas', 'scipy', 'pyarrow', 'matplotlib', 'river')\n"
        "print(*[name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
