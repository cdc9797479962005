"""The ledger of chat requests: the fields of OpenAI and vLLM, and those that clients, routers and SDKs add.

A new parameter is a row here and a field of the request (`schema/chat_request.py`, `schema/sampling.py`).
Sources: OpenAI's API reference, vLLM's extra parameters, defaults that vllm-router and sglang-router add to
every request, and fields that SDKs and chat frontends were seen to send back.
"""

from typing import Final

from gateway.schema.ledger import Ledger, honoured, refused, without_effect
from gateway.schema.response_parameters import REASONING, RESPONSES
from gateway.schema.wire import MODEL

_NO_AUDIO = "LLaVA-1.5 has no audio."
_NO_CACHE_HINTS = "Prompts and images are cached anyway."
_NOT_REMEMBERED = "Nothing is stored for OpenAI's dashboards."
_NO_REASONING = "LLaVA-1.5 does not reason before it answers."
_NO_CUSTOM = "Arguments are always JSON; use `function`."
_OLD_TOOLS = "The predecessor of `tools`; use `tools` and `tool_choice`."
_ROUTERS = "A parameter of another engine."

_REQUEST: Final = (
    honoured("model", MODEL),
    honoured("messages", "The conversation; see [prompts.md](prompts.md)."),
    honoured("stream", "Server-sent events."),
    honoured("stream_options", "Only if `stream` is true."),
    honoured("stream_options.include_usage", "The last chunk has the usage."),
    without_effect("stream_options.include_obfuscation", "No padding is added to chunks."),
    honoured("n", "1 to 16 answers."),
    honoured("max_completion_tokens", "The newer name of `max_tokens`; takes precedence over it."),
    honoured("max_tokens", "Maximum answer length in tokens, cut to what the context has left."),
    honoured("temperature", "0 to 2. Default: the profile's, if `top_p` is not set either."),
    honoured("top_p", "0 to 1; 0 is greedy. Default as for `temperature`."),
    honoured("stop", "A string, or up to sixteen; empty ones are left out."),
    honoured("seed", "A signed 64-bit integer, at most 2⁶³ − `n`."),
    honoured("presence_penalty", "-2 to 2."),
    honoured("frequency_penalty", "-2 to 2."),
    honoured("logit_bias", "Up to 300 token ids, each -100 to 100."),
    honoured("logprobs", "Log probabilities of the answer's tokens."),
    honoured("top_logprobs", "0 to 20; needs `logprobs`."),
    refused("audio", _NO_AUDIO),
    refused("function_call", _OLD_TOOLS, ("none",)),
    refused("functions", _OLD_TOOLS, ([],)),
    without_effect("metadata", _NOT_REMEMBERED),
    refused("modalities", "Answers are text.", (["text"],)),
    refused("moderation", "No moderation model is served."),
    honoured("parallel_tool_calls", "`true`: up to four calls in one answer; otherwise one."),
    without_effect("prediction", "A hint for speed that does not change the answer."),
    without_effect("prompt_cache_key", _NO_CACHE_HINTS),
    without_effect("prompt_cache_options", _NO_CACHE_HINTS),
    without_effect("prompt_cache_retention", _NO_CACHE_HINTS),
    without_effect("reasoning_effort", _NO_REASONING),
    honoured("response_format", "The format of the answer; see [structured.md](structured.md)."),
    honoured("response_format.type", "`text`, `json_object` or `json_schema`."),
    honoured("response_format.json_schema", "Required for `json_schema`."),
    honoured("response_format.json_schema.name", "1 to 64 letters, digits, `_` and `-`."),
    honoured("response_format.json_schema.schema", "The JSON schema."),
    honoured("response_format.json_schema.strict", "Accepted; the answer always matches the schema."),
    without_effect("response_format.json_schema.description", "Describe the answer in the prompt."),
    without_effect("safety_identifier", "No caller is reported to OpenAI."),
    without_effect("service_tier", "There is one tier."),
    without_effect("store", _NOT_REMEMBERED),
    honoured("tool_choice", "`none`, `auto`, `required`, a function, or `allowed_tools`."),
    honoured("tool_choice.type", "`function` or `allowed_tools`."),
    honoured("tool_choice.function", "The function that must be called."),
    honoured("tool_choice.function.name", "One of `tools`."),
    honoured("tool_choice.allowed_tools", "The only functions that may be called."),
    honoured("tool_choice.allowed_tools.mode", "`auto` or `required`."),
    honoured("tool_choice.allowed_tools.tools", "Each as in `tool_choice`."),
    honoured("tool_choice.allowed_tools.tools[].type", "`function`."),
    honoured("tool_choice.allowed_tools.tools[].function", "One of the functions."),
    honoured("tool_choice.allowed_tools.tools[].function.name", "One of `tools`."),
    refused("tool_choice.custom", _NO_CUSTOM),
    honoured("tools", "Up to 128 functions; see [tools.md](tools.md)."),
    honoured("tools[].type", "`function`."),
    honoured("tools[].function", "The function that may be called."),
    honoured("tools[].function.name", "1 to 64 letters, digits, `_` and `-`."),
    honoured("tools[].function.description", "Part of the prompt."),
    honoured("tools[].function.parameters", "The JSON schema of the arguments."),
    honoured("tools[].function.strict", "Accepted; arguments always match the schema."),
    without_effect("tools[].function.cache_control", _NO_CACHE_HINTS),
    without_effect("tools[].cache_control", _NO_CACHE_HINTS),
    refused("tools[].custom", _NO_CUSTOM),
    without_effect("user", "Callers are identified by their API keys."),
    without_effect("verbosity", "Ask for a short or long answer in the prompt."),
    refused("web_search_options", "The model has no access to the web."),
)

_MESSAGES: Final = (
    honoured("messages[].role", "`system`, `developer` (the same), `user`, `assistant` or `tool`."),
    honoured("messages[].content", "Text, or a list of parts."),
    without_effect("messages[].name", "LLaVA-1.5's prompt has no field for names."),
    refused("messages[].audio", _NO_AUDIO),
    refused("messages[].function_call", _OLD_TOOLS),
    honoured("messages[].refusal", "The text of a refusal by the assistant."),
    honoured("messages[].tool_calls", "Calls of the assistant; lines of its turn in the prompt."),
    honoured("messages[].tool_calls[].id", "Links the call to its result."),
    honoured("messages[].tool_calls[].type", "`function`."),
    honoured("messages[].tool_calls[].function", "The function that was called."),
    honoured("messages[].tool_calls[].function.name", "The function's name."),
    honoured("messages[].tool_calls[].function.arguments", "JSON, as text."),
    refused("messages[].tool_calls[].custom", _NO_CUSTOM),
    without_effect("messages[].tool_calls[].index", "Streams have it; some clients send it back."),
    honoured("messages[].tool_call_id", "In a message of role `tool`: the id of its call."),
    honoured("messages[].content[].type", "`text`, `refusal`, `image_url` or `file`; more forms below."),
    honoured("messages[].content[].text", "Always plain text, even if it spells a special token."),
    honoured("messages[].content[].refusal", "As text."),
    honoured("messages[].content[].image_url", "An image: an object, or only its `url`."),
    honoured("messages[].content[].image_url.url", "A `data:` URL in base64, or an `http:` or `https:` URL."),
    without_effect("messages[].content[].image_url.detail", "LLaVA-1.5 sees every image at one size."),
    refused("messages[].content[].input_audio", _NO_AUDIO),
    honoured("messages[].content[].file", "An image."),
    honoured("messages[].content[].file.file_id", "An image that the caller uploaded to `/v1/files`."),
    honoured("messages[].content[].file.file_data", "An image in base64, or a `data:` URL of one."),
    without_effect("messages[].content[].file.filename", "The image format is read from the bytes."),
    without_effect("messages[].content[].prompt_cache_breakpoint", _NO_CACHE_HINTS),
)

_FORMS: Final = (
    # `input_image`, as in the Responses API; `input_text` and `output_text` are as `text`.
    honoured("messages[].content[].file_id", "An image that the caller uploaded to `/v1/files`."),
    without_effect("messages[].content[].detail", "LLaVA-1.5 sees every image at one size."),
    without_effect("messages[].content[].annotations", "Only the text of an answer is read."),
    without_effect("messages[].content[].logprobs", "Only the text of an answer is read."),
    # `image`: LangChain's blocks
    honoured("messages[].content[].data", "An image in base64 (`image`, LangChain v0)."),
    honoured("messages[].content[].base64", "An image in base64 (`image`, LangChain v1)."),
    honoured("messages[].content[].url", "As `image_url.url` (`image`, LangChain)."),
    without_effect("messages[].content[].source_type", "The name of the source field is enough."),
    without_effect("messages[].content[].mime_type", "The image format is read from the bytes."),
    without_effect("messages[].content[].id", "The id of a block."),
    without_effect("messages[].content[].index", "The index of a block in a stream."),
    without_effect("messages[].content[].extras", "Fields of other providers."),
    # `image` and `resource`: the blocks of tool servers (MCP); an image has `data`
    without_effect("messages[].content[].mimeType", "The image format is read from the bytes."),
    honoured("messages[].content[].resource", "Text or an image from a tool server (`resource`)."),
    honoured("messages[].content[].resource.text", "As `text`."),
    honoured("messages[].content[].resource.blob", "An image in base64."),
    without_effect("messages[].content[].resource.uri", "The content is embedded."),
    without_effect("messages[].content[].resource.mimeType", "The image format is read from the bytes."),
    # `image`: Anthropic's blocks
    honoured("messages[].content[].source", "An image (`image`, Anthropic)."),
    honoured("messages[].content[].source.data", "An image in base64."),
    honoured("messages[].content[].source.url", "As `image_url.url`."),
    honoured("messages[].content[].source.file_id", "As `file.file_id`."),
    without_effect("messages[].content[].source.type", "The name of the source field is enough."),
    without_effect("messages[].content[].source.media_type", "The image format is read from the bytes."),
)

_ECHOES: Final = (
    without_effect("messages[].annotations", "Part of OpenAI's answers."),
    without_effect("messages[].id", "SDKs and frontends add it."),
    without_effect("messages[].parsed", "OpenAI's SDKs add it; `content` has the same text."),
    without_effect(
        "messages[].prefix", "LiteLLM sends it; a last message of the assistant is continued anyway."
    ),
    without_effect("messages[].provider_specific_fields", "LiteLLM adds it."),
    without_effect("messages[].reasoning", _NO_REASONING),
    without_effect("messages[].reasoning_content", _NO_REASONING),
    without_effect(
        "messages[].content[].cache_control", _NO_CACHE_HINTS + " Anthropic has it; LiteLLM sends it."
    ),
    without_effect("messages[].content[].uuid", "vLLM has it; images are identified by their bytes."),
)

_VLLM: Final = (
    honoured("stream_options.continuous_usage_stats", "Every chunk has the usage so far."),
    honoured("top_k", "-1 and 0 mean all."),
    honoured("min_p", "0 to 1."),
    honoured("repetition_penalty", "From 0.001 to 2."),
    honoured("min_tokens", "Minimum answer length in tokens."),
    honoured("ignore_eos", "Generation continues past the model's end token."),
    honoured("stop_token_ids", "Up to 64 token ids."),
    honoured("add_generation_prompt", "Must be false if `continue_final_message` is true, else true."),
    refused("add_special_tokens", "The gateway sets the prompt's tokens.", (False,)),
    refused("allowed_token_ids", "Use `logit_bias`.", ([],)),
    refused("bad_words", "Use `logit_bias`.", ([],)),
    refused("best_of", "Use `n`.", (1,)),
    refused("cache_salt", "Caches are separate for each caller anyway."),
    refused("chat_template", "The profile sets the prompt style."),
    without_effect("chat_template_kwargs", "The profile sets the prompt style."),
    honoured(
        "continue_final_message",
        "The answer continues the last message, the assistant's, which is also the default; false is a 400.",
    ),
    refused("documents", "The profile sets the prompt style.", ([],)),
    refused("echo", "Answers have only new text.", (False,)),
    refused("guided_choice", "Removed from vLLM, too; use `structured_outputs.choice`."),
    refused("guided_grammar", "Removed from vLLM, too; use `structured_outputs.grammar`."),
    refused("guided_json", "Removed from vLLM, too; use `structured_outputs.json`."),
    refused("guided_regex", "Removed from vLLM, too; use `structured_outputs.regex`."),
    *(without_effect(name, _NO_REASONING) for name in REASONING),
    refused("include_stop_str_in_output", "Answers end before the stop string, as OpenAI's do.", (False,)),
    refused("kv_transfer_params", "There is one engine."),
    refused("length_penalty", "Only beam search uses it.", (1, 1.0)),
    refused("logits_processors", "Clients cannot send code.", ([],)),
    refused("mm_processor_kwargs", "Use `image_fit`.", ({},)),
    refused("priority", "The operator sets it.", (0,)),
    refused("prompt_logprobs", "Only the answer has log probabilities."),
    refused("request_id", "Use the header `x-request-id`."),
    refused("return_token_ids", "Answers are text.", (False,)),
    refused("return_tokens_as_token_ids", "Answers are text.", (False,)),
    refused("skip_special_tokens", "Answers are text.", (True,)),
    refused("spaces_between_special_tokens", "Answers are text.", (True,)),
    honoured("structured_outputs", "The format of the answer: one of the fields below."),
    honoured("structured_outputs.json", "A JSON schema, as an object or a string."),
    honoured("structured_outputs.json_object", "`true`: any JSON object."),
    honoured("structured_outputs.regex", "A pattern that the full answer must match."),
    honoured("structured_outputs.choice", "Up to 1000 strings; the answer is one of them."),
    honoured("structured_outputs.grammar", "In llguidance's Lark, or in EBNF."),
    refused(
        "structured_outputs.disable_any_whitespace", "JSON is written on one line anyway.", (True, False)
    ),
    refused("structured_outputs.disable_additional_properties", "Set it in the schema.", (False,)),
    refused("structured_outputs.whitespace_pattern", "JSON is written on one line."),
    refused("structured_outputs.structural_tag", "Use `tools`, or `grammar`."),
    refused("truncate_prompt_tokens", "Prompts are never truncated."),
    refused("use_beam_search", "Beam search is not supported.", (False,)),
)

_GATEWAY: Final = (
    honoured(
        "stream_options.include_timing",
        "As `include_usage`; `usage.timing` has the milliseconds of each step, as in `Server-Timing`.",
    ),
    honoured("image_fit", "How an image is made square: `pad`, `crop` or `squash`."),
    honoured(
        "image_place",
        "`auto`: images first, unless there is text between two; `asked`: the client's order.",
    ),
    honoured("image_history", "If not all images fit: `keep_last` drops the oldest, `strict` refuses."),
)

_OTHERS: Final = (
    refused("custom_params", _ROUTERS),
    refused("ebnf", _ROUTERS),
    refused("json_schema", _ROUTERS),
    refused("lora_path", _ROUTERS),
    refused("no_stop_trim", _ROUTERS, (False,)),
    refused("regex", _ROUTERS),
    refused("return_hidden_states", _ROUTERS, (False,)),
    refused("return_routed_experts", _ROUTERS, (False,)),
    refused("rid", _ROUTERS),
    refused("sampling_seed", "A parameter of another engine; use `seed`."),
    refused("session_params", _ROUTERS),
)

CHAT: Final = Ledger(
    {
        "OpenAI's parameters": _REQUEST,
        "OpenAI's messages": _MESSAGES,
        "Further forms of parts: `input_image`, `image`": _FORMS,
        "Fields that SDKs and frontends add to messages": _ECHOES,
        "vLLM's parameters": _VLLM,
        "The gateway's parameters": _GATEWAY,
        "Parameters of other engines": _OTHERS,
    },
    messages="messages",
)

_RENDERING: Final = {
    "Only in `/v1/chat/completions/render`": (
        honoured("render_fits", "The fits in which images are returned; see [render.md](render.md)."),
    )
}

RENDER: Final = Ledger({**CHAT.sections, **_RENDERING}, CHAT.messages)

_COMPLETION: Final = (
    honoured("model", MODEL),
    honoured(
        "prompt", "A string, up to 64 strings, token ids, or up to 64 lists of them; `<s>` is put first."
    ),
    refused("suffix", "LLaVA-1.5 cannot fill in text.", ("",)),
    refused("best_of", "Use `n`.", (1,)),
    honoured("echo", "The answer starts with the prompt."),
    honoured("logprobs", "0 to 5; with `echo`, also of the prompt."),
    refused("top_logprobs", "Use `logprobs`."),
    honoured("max_tokens", "Default 16; 0 with `echo` returns only the prompt."),
    *(
        row
        for row in _REQUEST
        if row.field.partition(".")[0]
        in (
            *("frequency_penalty", "logit_bias", "n", "presence_penalty", "seed", "stop", "stream"),
            *("stream_options", "temperature", "top_p", "user"),
        )
    ),
)

_ONLY_CHATS: Final = frozenset(
    {
        "add_generation_prompt",
        "add_special_tokens",
        "best_of",
        "chat_template",
        "continue_final_message",
        "documents",
        "echo",
        "structured_outputs",
    }
)

COMPLETIONS: Final = Ledger(
    {
        "OpenAI's parameters of completions": _COMPLETION,
        "vLLM's parameters of completions": (
            refused("add_special_tokens", "The gateway puts `<s>` first.", (True,)),
            refused("structured_outputs", "Use chat."),
            *(row for row in _VLLM if row.field.partition(".")[0] not in _ONLY_CHATS),
        ),
        "The gateway's parameters of completions": tuple(
            row for row in _GATEWAY if row.field.startswith("stream_options.")
        ),
        "Parameters of other engines in completions": (
            without_effect("reasoning_effort", _NO_REASONING),
            *_OTHERS,
        ),
    }
)

_INTRODUCTION: Final = """# Parameters

How the gateway handles each field of chat, completions and Responses requests, at every depth (`[]` follows a
list). `llava-gateway parameters` writes this page from the data that requests are checked against.

- **honoured**: the field has the described effect.
- **without effect**: any value is accepted and changes nothing.
- **refused**: the request gets a 400 that names the field. Values listed as accepted have no effect.

A field that is `null` is treated as if it were not sent. A field in no table is refused with
`unknown_parameter`. Sub-fields of a field that is refused or without effect are treated like their parent.

Messages (`messages`; in Responses, `input`) are an exception, because SDKs and frontends add their own
fields: a field in no table is ignored, listed in the header `x-gateway-ignored`, and counted in
`gateway_ignored_fields_total`. If it looks like an image or another file (`images`, `image_url`,
`attachments`, base64), it is refused, because the model would not see it.
"""


def page() -> str:
    """Return docs/parameters.md: the ledgers as Markdown."""
    return f"{_INTRODUCTION}\n{RENDER.tables()}\n{COMPLETIONS.tables()}\n{RESPONSES.tables()}"
