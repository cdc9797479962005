"""The tool that programs offer in OpenAI's form."""

TOOL = {
    "type": "function",
    "function": {
        "name": "note",
        "description": "Notes how many shapes there are.",
        "parameters": {
            "type": "object",
            "properties": {"count": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["count"],
            "additionalProperties": False,
        },
    },
}
