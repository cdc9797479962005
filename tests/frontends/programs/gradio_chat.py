"""Gradio's chat in front of the gateway."""

import os

import gradio as gr

gr.load_chat(
    os.environ["BASE_URL"],
    model="llava-demo",
    token=os.environ["API_KEY"],
    file_types=["image"],
    # Of itself, the input for pictures has no button to stop an answer.
    textbox=gr.MultimodalTextbox(file_types=["image"], stop_btn=True),
).launch(
    server_name="127.0.0.1",
    server_port=int(os.environ["PORT"]),
    show_error=True,  # A person reads what the gateway answered, not "Error" alone.
)
