"""Stands where transformers and SGLang import names of torchvision's that text models never use.

torchvision's own wheels are linked against CUDA and break `import transformers` beside the CPU build of torch.
"""

import sys
import types

__version__ = "0.28.0"


class _Unused(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _Module(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unused(name, (), {})


for _name in ("io", "transforms", "transforms.functional", "transforms.v2", "transforms.v2.functional"):
    _module = sys.modules[f"{__name__}.{_name}"] = _Module(f"{__name__}.{_name}")
    _parent, _, _child = f"{__name__}.{_name}".rpartition(".")
    setattr(sys.modules[_parent], _child, _module)
