"""The ledger of chat requests: every field of OpenAI's, vLLM's and what clients, routers and SDKs add.

A new parameter is a row here and a field of the request (`schema/chat.py`, `schema/sampling.py`). Sources:
OpenAI's API reference, vLLM's extra parameters, what vllm-router and sglang-router add to every request at
its default, and what SDKs and chat frontends were seen to echo.
"""

from typing import Final

from gateway.schema.ledger import Ledger, honoured, refused, without_effect
from gateway.schema.response_parameters import REASONING, RESPONSES
from gateway.schema.wire import MODEL

_NO_AUDIO = "LLaVA-1.5 has no audio."
_NO_CACHE_HINTS = "Prompts and pictures are cached anyway."
_NOT_REMEMBERED = "Nothing is kept for OpenAI's dashboards."
_NO_REASONING = "LLaVA-1.5 does not reason before it answers."
_NO_CUSTOM = "Calls have JSON arguments; use `function`."
_OLD_TOOLS = "The form before `tools`; use `tools` and `tool_choice`."
_ROUTERS = "Another engine's."

_REQUEST: Final = (
    honoured("model", MODEL),
    honoured("messages", "The conversation; see [prompts.md](prompts.md)."),
    honoured("stream", "Server-sent events."),
    honoured("stream_options", "Only where `stream` is true."),
    honoured("stream_options.include_usage", "The last chunk has the usage."),
    without_effect("stream_options.include_obfuscation", "No padding is added to chunks."),
    honoured("n", "1 to 16 answers."),
    honoured("max_completion_tokens", "The newer name of `max_tokens`; takes precedence over it."),
    honoured("max_tokens", "Maximum answer length in tokens, cut to the room left in the context."),
    honoured("temperature", "0 to 2. Default: the profile's, if `top_p` is not set either."),
    honoured("top_p", "0 to 1, 0 is greedy; as `temperature`."),
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
    without_effect("prediction", "A hint for speed, which cannot change the answer."),
    without_effect("prompt_cache_key", _NO_CACHE_HINTS),
    without_effect("prompt_cache_options", _NO_CACHE_HINTS),
    without_effect("prompt_cache_retention", _NO_CACHE_HINTS),
    without_effect("reasoning_effort", _NO_REASONING),
    honoured("response_format", "The answer's form; see [structured.md](structured.md)."),
    honoured("response_format.type", "`text`, `json_object` or `json_schema`."),
    honoured("response_format.json_schema", "Needed for `json_schema`."),
    honoured("response_format.json_schema.name", "1 to 64 letters, digits, `_` and `-`."),
    honoured("response_format.json_schema.schema", "The JSON schema."),
    honoured("response_format.json_schema.strict", "The answer has the schema's form in any case."),
    without_effect("response_format.json_schema.description", "Say in the prompt what you want."),
    without_effect("safety_identifier", "Nobody is reported to OpenAI."),
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
    honoured("tool_choice.allowed_tools.tools[].function", "One of them."),
    honoured("tool_choice.allowed_tools.tools[].function.name", "One of `tools`."),
    refused("tool_choice.custom", _NO_CUSTOM),
    honoured("tools", "Up to 128 functions; see [tools.md](tools.md)."),
    honoured("tools[].type", "`function`."),
    honoured("tools[].function", "What may be called."),
    honoured("tools[].function.name", "1 to 64 letters, digits, `_` and `-`."),
    honoured("tools[].function.description", "Part of the prompt."),
    honoured("tools[].function.parameters", "The JSON schema of the arguments."),
    honoured("tools[].function.strict", "Arguments have the schema's form in any case."),
    without_effect("tools[].function.cache_control", _NO_CACHE_HINTS),
    without_effect("tools[].cache_control", _NO_CACHE_HINTS),
    refused("tools[].custom", _NO_CUSTOM),
    without_effect("user", "Callers are identified by their API keys."),
    without_effect("verbosity", "Ask for a short or a long answer in words."),
    refused("web_search_options", "The model has no access to the web."),
)

_MESSAGES: Final = (
    honoured("messages[].role", "`system`, `developer` (the same), `user`, `assistant` or `tool`."),
    honoured("messages[].content", "Text, or a list of parts."),
    without_effect("messages[].name", "LLaVA-1.5's prompt has no place for names."),
    refused("messages[].audio", _NO_AUDIO),
    refused("messages[].function_call", _OLD_TOOLS),
    honoured("messages[].refusal", "The assistant's words where it refused; as text."),
    honoured("messages[].tool_calls", "Calls of the assistant's; lines of its turn."),
    honoured("messages[].tool_calls[].id", "Names the call to its result."),
    honoured("messages[].tool_calls[].type", "`function`."),
    honoured("messages[].tool_calls[].function", "What was called."),
    honoured("messages[].tool_calls[].function.name", "The function's name."),
    honoured("messages[].tool_calls[].function.arguments", "JSON, as text."),
    refused("messages[].tool_calls[].custom", _NO_CUSTOM),
    without_effect("messages[].tool_calls[].index", "Streams have it; some clients echo it."),
    honoured("messages[].tool_call_id", "In a message of role `tool`: the call that it is the result of."),
    honoured("messages[].content[].type", "`text`, `refusal`, `image_url` or `file`; further forms below."),
    honoured("messages[].content[].text", "Always plain text, even if it spells a special token."),
    honoured("messages[].content[].refusal", "As text."),
    honoured("messages[].content[].image_url", "A picture: an object, or its `url` alone."),
    honoured("messages[].content[].image_url.url", "A `data:` URL in base64, or an `http:` or `https:` URL."),
    without_effect("messages[].content[].image_url.detail", "LLaVA-1.5 sees every picture at one size."),
    refused("messages[].content[].input_audio", _NO_AUDIO),
    honoured("messages[].content[].file", "A picture."),
    honoured("messages[].content[].file.file_id", "A picture that the caller uploaded to `/v1/files`."),
    honoured("messages[].content[].file.file_data", "A picture in base64, or a `data:` URL of one."),
    without_effect("messages[].content[].file.filename", "A picture's format is read from its bytes."),
    without_effect("messages[].content[].prompt_cache_breakpoint", _NO_CACHE_HINTS),
)

_FORMS: Final = (
    # `input_image`, as in the Responses API; `input_text` and `output_text` are as `text`.
    honoured("messages[].content[].file_id", "A picture that the caller uploaded to `/v1/files`."),
    without_effect("messages[].content[].detail", "LLaVA-1.5 sees every picture at one size."),
    without_effect("messages[].content[].annotations", "Only the words of an answer are read."),
    without_effect("messages[].content[].logprobs", "Only the words of an answer are read."),
    # `image`: LangChain's blocks
    honoured("messages[].content[].data", "A picture in base64 (`image`, LangChain's v0)."),
    honoured("messages[].content[].base64", "A picture in base64 (`image`, LangChain's v1)."),
    honoured("messages[].content[].url", "As `image_url.url` (`image`, LangChain's)."),
    without_effect("messages[].content[].source_type", "The field that is there says it."),
    without_effect("messages[].content[].mime_type", "A picture's format is read from its bytes."),
    without_effect("messages[].content[].id", "A block's name."),
    without_effect("messages[].content[].index", "A block's place in a stream."),
    without_effect("messages[].content[].extras", "Other providers' fields."),
    # `image` and `resource`: the blocks of tool servers (MCP); an image has `data`
    without_effect("messages[].content[].mimeType", "A picture's format is read from its bytes."),
    honoured("messages[].content[].resource", "What a tool server embeds: text, or a picture (`resource`)."),
    honoured("messages[].content[].resource.text", "As `text`."),
    honoured("messages[].content[].resource.blob", "A picture in base64."),
    without_effect("messages[].content[].resource.uri", "The content is there."),
    without_effect("messages[].content[].resource.mimeType", "A picture's format is read from its bytes."),
    # `image`: Anthropic's blocks
    honoured("messages[].content[].source", "A picture (`image`, Anthropic's)."),
    honoured("messages[].content[].source.data", "In base64."),
    honoured("messages[].content[].source.url", "As `image_url.url`."),
    honoured("messages[].content[].source.file_id", "As `file.file_id`."),
    without_effect("messages[].content[].source.type", "The field that is there says it."),
    without_effect("messages[].content[].source.media_type", "A picture's format is read from its bytes."),
)

_ECHOES: Final = (
    without_effect("messages[].annotations", "OpenAI's answers have it."),
    without_effect("messages[].id", "SDKs and frontends add it."),
    without_effect("messages[].parsed", "OpenAI's SDKs add it; `content` says the same."),
    without_effect("messages[].prefix", "LiteLLM's; the assistant's last message is continued anyway."),
    without_effect("messages[].provider_specific_fields", "LiteLLM adds it."),
    without_effect("messages[].reasoning", _NO_REASONING),
    without_effect("messages[].reasoning_content", _NO_REASONING),
    without_effect("messages[].content[].cache_control", _NO_CACHE_HINTS + " Anthropic's; LiteLLM sends it."),
    without_effect("messages[].content[].uuid", "vLLM's; pictures are known by their bytes."),
)

_VLLM: Final = (
    honoured("stream_options.continuous_usage_stats", "Every chunk has the usage so far."),
    honoured("top_k", "-1 and 0 mean all."),
    honoured("min_p", "0 to 1."),
    honoured("repetition_penalty", "From 0.001 to 2."),
    honoured("min_tokens", "Minimum answer length in tokens."),
    honoured("ignore_eos", "Generation continues past the model's end token."),
    honoured("stop_token_ids", "Up to 64 token ids."),
    honoured("add_generation_prompt", "False where `continue_final_message` is true, else true."),
    refused("add_special_tokens", "The gateway sets the prompt's tokens.", (False,)),
    refused("allowed_token_ids", "Use `logit_bias`.", ([],)),
    refused("bad_words", "Use `logit_bias`.", ([],)),
    refused("best_of", "Use `n`.", (1,)),
    refused("cache_salt", "Caches are separate for each caller anyway."),
    refused("chat_template", "Prompts have the profile's style."),
    without_effect("chat_template_kwargs", "Prompts have the profile's style."),
    honoured(
        "continue_final_message",
        "The answer goes on with the last message, the assistant's, as it does without this; false is a 400.",
    ),
    refused("documents", "Prompts have the profile's style.", ([],)),
    refused("echo", "Answers hold what is new.", (False,)),
    refused("guided_choice", "vLLM no longer has it either; use `structured_outputs.choice`."),
    refused("guided_grammar", "vLLM no longer has it either; use `structured_outputs.grammar`."),
    refused("guided_json", "vLLM no longer has it either; use `structured_outputs.json`."),
    refused("guided_regex", "vLLM no longer has it either; use `structured_outputs.regex`."),
    *(without_effect(name, _NO_REASONING) for name in REASONING),
    refused("include_stop_str_in_output", "Answers end before the stop string, as OpenAI's do.", (False,)),
    refused("kv_transfer_params", "The engine is alone."),
    refused("length_penalty", "Only beam search uses it.", (1, 1.0)),
    refused("logits_processors", "Clients cannot send code.", ([],)),
    refused("mm_processor_kwargs", "Use `image_fit`.", ({},)),
    refused("priority", "The operator sets it.", (0,)),
    refused("prompt_logprobs", "Log probabilities are the answer's."),
    refused("request_id", "Use the header `x-request-id`."),
    refused("return_token_ids", "Answers are text.", (False,)),
    refused("return_tokens_as_token_ids", "Answers are text.", (False,)),
    refused("skip_special_tokens", "Answers are text.", (True,)),
    refused("spaces_between_special_tokens", "Answers are text.", (True,)),
    honoured("structured_outputs", "The answer's form: one of the fields below."),
    honoured("structured_outputs.json", "A JSON schema, as an object or a string."),
    honoured("structured_outputs.json_object", "`true`: any JSON object."),
    honoured("structured_outputs.regex", "A pattern that the whole answer matches."),
    honoured("structured_outputs.choice", "Up to 1000 strings; the answer is one of them."),
    honoured("structured_outputs.grammar", "In llguidance's Lark, or in EBNF."),
    refused("structured_outputs.disable_any_whitespace", "JSON has one line anyway.", (True, False)),
    refused("structured_outputs.disable_additional_properties", "Say it in the schema.", (False,)),
    refused("structured_outputs.whitespace_pattern", "JSON has one line."),
    refused("structured_outputs.structural_tag", "Use `tools`, or `grammar`."),
    refused("truncate_prompt_tokens", "No part of a prompt is cut off."),
    refused("use_beam_search", "Beam search is not supported.", (False,)),
)

_GATEWAY: Final = (
    honoured(
        "stream_options.include_timing",
        "As `include_usage`; `usage.timing` has the milliseconds of each step, as `Server-Timing` does.",
    ),
    honoured("image_fit", "How a picture becomes square: `pad`, `crop` or `squash`."),
    honoured(
        "image_place",
        "`auto`: pictures first, unless text stands between two; `asked`: in the client's order.",
    ),
    honoured("image_history", "More pictures than fit: `keep_last` leaves out the oldest, `strict` refuses."),
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
    refused("sampling_seed", "Another engine's; use `seed`."),
    refused("session_params", _ROUTERS),
)

CHAT: Final = Ledger(
    {
        "OpenAI's parameters": _REQUEST,
        "OpenAI's messages": _MESSAGES,
        "Further forms of parts: `input_image`, `image`": _FORMS,
        "What SDKs and frontends add to messages": _ECHOES,
        "vLLM's parameters": _VLLM,
        "The gateway's own": _GATEWAY,
        "Other engines'": _OTHERS,
    },
    messages="messages",
)

_RENDERING: Final = {
    "Of `/v1/chat/completions/render` alone": (
        honoured("render_fits", "The fits in which its pictures are returned; see [render.md](render.md)."),
    )
}

RENDER: Final = Ledger({**CHAT.sections, **_RENDERING}, CHAT.messages)

_COMPLETION: Final = (
    honoured("model", MODEL),
    honoured(
        "prompt", "A string, up to 64 strings, token ids, or up to 64 lists of them; `<s>` comes first."
    ),
    refused("suffix", "LLaVA-1.5 only continues at the end.", ("",)),
    refused("best_of", "Use `n`.", (1,)),
    honoured("echo", "The answer starts with the prompt."),
    honoured("logprobs", "0 to 5; with `echo`, of the prompt too."),
    refused("top_logprobs", "It is `logprobs` here."),
    honoured("max_tokens", "Default 16; 0 with `echo` returns the prompt alone."),
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
        "The gateway's own parameters of completions": tuple(
            row for row in _GATEWAY if row.field.startswith("stream_options.")
        ),
        "Other engines' parameters of completions": (
            without_effect("reasoning_effort", _NO_REASONING),
            *_OTHERS,
        ),
    }
)

_INTRODUCTION: Final = """# Parameters

What becomes of every field of a chat request, and further below of a completions request and of a Responses
request, at every depth (`[]` stands after a list).
This page is `llava-gateway parameters`, printed from the data that requests are checked by.

- **honoured**: it does what it says.
- **without effect**: any value is taken, and nothing that LLaVA-1.5 could answer depends on it.
- **refused**: the request ends with a 400 that names the field, unless the value asks for nothing.

A field whose value is `null` asks for nothing and is taken anywhere. A field that is in no table is refused
with `unknown_parameter`. What is inside a field that is refused or without effect shares its fate.

Messages (`messages`; of responses, `input`) are different, for SDKs and frontends add their own fields to
them: one that is in no table is ignored. The header `x-gateway-ignored` names it, and
`gateway_ignored_fields_total` counts it. What looks like a picture or another file there (`images`,
`image_url`, `attachments`, base64) is refused, because the model would not see it.
"""


def page() -> str:
    """Return the ledgers as a page of Markdown."""
    return f"{_INTRODUCTION}\n{RENDER.tables()}\n{COMPLETIONS.tables()}\n{RESPONSES.tables()}"
