"""Gradio's chat in front of the gateway, as its own documentation has it."""

import os

import gradio as gr

gr.load_chat(
    os.environ["BASE_URL"],
    model="llava-demo",
    token=os.environ["API_KEY"],
    file_types=["image"],
    streaming=True,
).launch(server_name="127.0.0.1", server_port=int(os.environ["PORT"]), share=False, show_error=True)
