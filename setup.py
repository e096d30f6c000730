"""One more step when a wheel is built: the viewer of the pages is fetched. The rest stands in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithViewer(build_py):
    """Fetches the viewer before the files are gathered; without it the pages have still pictures only."""

    def run(self) -> None:
        """An editable installation leaves the viewer to `make install`."""
        if not self.editable_mode:
            subprocess.run([sys.executable, "-m", "moe_pipeline.web.fetch"], cwd=Path(__file__).parent, check=False)
        super().run()


setup(cmdclass={"build_py": BuildWithViewer})
