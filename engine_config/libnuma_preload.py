"""Loads the libnuma that set-up unpacked into `.venv`, before vLLM's CPU kernels, which are linked to it.

Only for users who may not install Debian's libnuma1. Set-up names this module in a `.pth` file of `.venv`,
which every interpreter reads at its start. It loads nothing until vllm is imported.
"""

import ctypes
import sys


class _LoadFirst:
    """An import finder that finds nothing: it loads the library when vllm is imported."""

    @classmethod
    def find_spec(cls, name: str, *_: object) -> None:
        if name == "vllm":
            sys.meta_path.remove(cls)
            ctypes.CDLL(f"{sys.prefix}/lib/libnuma.so.1")


sys.meta_path.insert(0, _LoadFirst)
