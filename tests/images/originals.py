"""`pad` and `crop` as those define them who made LLaVA and its processor on the hub."""

import numpy as np
import pytest
from PIL import Image


def original_pad(image: Image.Image, side: int) -> Image.Image:
    """LLaVA's `expand2square` with CLIP's mean colour, then CLIP's bicubic resize of a square."""
    width, height = image.size
    colour = tuple(int(mean * 255) for mean in (0.48145466, 0.4578275, 0.40821073))
    long = max(width, height)
    result = Image.new("RGB", (long, long), colour)
    result.paste(image, ((long - width) // 2, (long - height) // 2))
    return result.resize((side, side), Image.Resampling.BICUBIC)


def original_crop(image: Image.Image, side: int) -> Image.Image:
    """CLIPImageProcessor, resizing and cropping and nothing else, on Pillow."""
    clip = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    processor = clip.CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        do_rescale=False,
        do_normalize=False,
    )
    pixels = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    return Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8))
