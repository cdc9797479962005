"""What the docs show for each route that takes JSON; a test sends every one."""

from collections.abc import Mapping
from typing import Any

# A red circle and a blue square on grey, 112 x 112 pixels.
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAHAAAABwAgMAAAC7jhzYAAAADFBMVEWWlpbcHiMoRtwAAAB+hU11AAAAuUlEQVR42u2TMQ7D"
    "IAxFfyKmTiy5D0foUqnH696lR+A+WXIAVDpgIpJ8IkUhUgf/AQs92R8bAFQq1bXqJD4w+g3sUxiAARXYOQD3CjTzQqAt7dfQ"
    "FesaSo6lUNwMhXbZ8xJmM8eHwNWX5ezRzF04t2Calr0AboZ9e6X4fZ71DHkTmrYS82Y6XDb/Es+glIs0M/BOEoz8PHIgTy0F"
    "TtRSYKCWAqMH8KmNbwTG+mW//+X1KTwFVSpVA/0AXg0cGWZGcaUAAAAASUVORK5CYII="
)
URL = f"data:image/png;base64,{PICTURE}"


def of_routes(model: str) -> Mapping[tuple[str, str], dict[str, Any]]:
    """Return a body for each route, by its method and path, that `model` can answer."""
    picture = {"type": "image_url", "image_url": {"url": URL}}
    parts = [picture, {"type": "text", "text": "What is in the image?"}]
    messages = [{"role": "user", "content": parts}]
    content = [
        {"type": "input_image", "image_url": URL},
        {"type": "input_text", "text": "What is in the image?"},
    ]
    response = {"model": model, "input": [{"role": "user", "content": content}]}
    return {
        ("POST", "/v1/chat/completions"): {"model": model, "messages": messages},
        ("POST", "/v1/chat/completions/render"): {"model": model, "messages": messages},
        ("POST", "/v1/responses"): response,
        ("POST", "/v1/responses/input_tokens"): response,
        ("POST", "/v1/completions"): {"model": model, "prompt": "USER: Hello\nASSISTANT:"},
        ("POST", "/tokenize"): {"model": model, "messages": messages},
        ("POST", "/detokenize"): {"model": model, "tokens": [1, 2]},
    }
