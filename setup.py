"""The metadata stands in pyproject.toml; this file puts the plugin's sources into the wheel."""

from pathlib import Path
from shutil import copy

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPlugin(build_py):
    """Adds plugins/ as rwkv_edge/_plugins, where `rwkv-edge plugin build` looks for it."""

    def run(self):
        super().run()
        if self.editable_mode:  # which finds plugins/ itself
            return
        for source, target in self._plugin_files():
            self.mkpath(str(target.parent))
            copy(source, target)

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), *(str(t) for _, t in self._plugin_files())]

    def _plugin_files(self):
        target = Path(self.build_lib) / "rwkv_edge" / "_plugins"
        parts = ("bi_wkv", "common", "shift_mix")
        sources = [path for part in parts for path in sorted(Path("plugins", part).iterdir())]
        sources.insert(0, Path("plugins/CMakeLists.txt"))
        files = [(path, target / path.relative_to("plugins")) for path in sources]
        headers = Path("tools/fetch_tensorrt_headers.py")
        return [*files, (headers, target / headers.name)]


setup(cmdclass={"build_py": BuildWithPlugin})
