"""Lets a CUDA build of torchvision be imported beside a CPU build of torch.

Where PyTorch's own index cannot be reached, pip takes torchvision from the plain Python index: a CUDA build,
whose compiled operators a CPU torch cannot load, so that `import torchvision` ends in
`RuntimeError: operator torchvision::nms does not exist`. LLaVA uses none of these operators; declaring them
is enough. vLLM starts fresh Python processes, so set-up names this module in a `.pth` file of the virtual
environment, which every interpreter reads at its start. It costs nothing until torchvision is imported.
"""

import sys

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


sys.meta_path.insert(0, _DeclareFirst)
