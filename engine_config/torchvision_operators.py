"""Lets CUDA builds of torchvision, torchaudio and torchcodec be installed beside a CPU build of torch.

Where PyTorch's own index cannot be reached, pip takes these from the plain Python index: CUDA builds. A CPU
torch cannot load torchvision's compiled operators, so that `import torchvision` ends in
`RuntimeError: operator torchvision::nms does not exist`. LLaVA uses none of these operators; declaring them
is enough. The other two lack CUDA's libraries. transformers imports whatever is installed: they are hidden.

vLLM starts fresh Python processes, so a `.pth` file in site-packages names a copy of this module, which every
interpreter imports at its start. That reads four small files; torch is imported only with torchvision.
"""

import sys
from pathlib import Path

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class _DeclareFirst:
    """An import finder that finds nothing: it declares the operators when torchvision is asked for."""

    library: object = None

    @classmethod
    def find_spec(cls, name: str, *_: object) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(cls)
        import torch  # noqa: PLC0415  # Here alone: the interpreter's start must stay cheap.

        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in _OPERATORS:
            library.define(operator)
        cls.library = library  # Kept: the declarations end when this object does.


def build(package: str) -> str:
    """Return "cpu", "cu" or "", the kind of build of `package` beside this file."""
    try:
        version = Path(__file__).with_name(package).joinpath("version.py").read_text()
    except OSError:
        return ""
    return next((kind for kind in ("cpu", "cu") if f"+{kind}" in version), "")


if build("torch") == "cpu":
    if build("torchvision") == "cu":
        sys.meta_path.insert(0, _DeclareFirst)
    for _name in ("torchaudio", "torchcodec"):
        if build(_name) == "cu":
            sys.modules[_name] = None  # type: ignore[assignment]  # `find_spec` then finds nothing
