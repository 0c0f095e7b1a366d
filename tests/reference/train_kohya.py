"""Imports modules of a sd-scripts checkout without the packages that they name and what is wanted of them does not need."""

import importlib.abc
import importlib.machinery
import sys
from unittest.mock import MagicMock

UNNEEDED = {
    "toml", "imagesize", "voluptuous", "bitsandbytes", "ftfy", "einops", "sentencepiece", "library.lpw_stable_diffusion", "rich", "open_clip",
}


class Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in UNNEEDED or name.split(".")[0] in UNNEEDED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module):
        pass


def imports(checkout):
    """Puts the checkout on the path, once."""
    if str(checkout) not in sys.path:
        sys.meta_path.insert(0, Empty())
        sys.path.insert(0, str(checkout))
