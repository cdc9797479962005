"""The ledger of Responses requests: OpenAI's fields, and the sampling parameters of chat.

A new parameter is a row here and a field of the request (`schema/responses_request.py`, `schema/items.py`).
"""

from typing import Final

from gateway.schema.ledger import Ledger, honoured, refused, without_effect
from gateway.schema.wire import MODEL

_ECHOED = "Returned with the answer, without other effect."
_NO_CACHE_HINTS = "Prompts and images are cached anyway."
_NO_REASONING = "LLaVA-1.5 does not reason before it answers."

# Parameters of reasoning models that programs send to any model: Ollama's, LiteLLM's, vLLM's, llama.cpp's.
REASONING: Final = (
    "enable_thinking",
    "include_reasoning",
    "reasoning",
    "reasoning_budget",
    "reasoning_content",
    "reasoning_format",
    "reasoning_split",
    "separate_reasoning",
    "stream_reasoning",
    "think",
    "thinking",
    "thinking_budget",
    "thinking_config",
    "thinking_token_budget",
)

_REQUEST: Final = (
    honoured("model", MODEL),
    honoured("input", "A string, or a list of items."),
    honoured(
        "instructions", "A system message before all others; it is not carried over to the next response."
    ),
    honoured("previous_response_id", "The conversation continues from there, images included."),
    honoured("store", "Default `true`: the response can be retrieved and continued."),
    honoured("metadata", "Up to 16 strings. " + _ECHOED),
    honoured("stream", "Server-sent events."),
    honoured("stream_options", "Only if `stream` is true."),
    without_effect("stream_options.include_obfuscation", "No padding is added to events."),
    honoured("max_output_tokens", "Maximum answer length in tokens."),
    honoured("temperature", "0 to 2. Default: the profile's, if `top_p` is not set either."),
    honoured("top_p", "0 to 1, 0 is greedy; as `temperature`."),
    honoured("top_logprobs", "0 to 20; with `include`."),
    honoured(
        "include", "`message.output_text.logprobs`. Other values are accepted, but no answer has such data."
    ),
    honoured("text", "The format of the answer."),
    honoured("text.format", "`text`, `json_object` or `json_schema`."),
    honoured("text.format.type", "`text`, `json_object` or `json_schema`."),
    honoured("text.format.name", "Required for `json_schema`."),
    honoured("text.format.schema", "The JSON schema."),
    honoured("text.format.description", _ECHOED),
    honoured("text.format.strict", "Accepted; the answer always matches the schema."),
    without_effect("text.verbosity", "Ask for a short or long answer in the prompt."),
    honoured("tools", "Functions; every other type is refused by name."),
    honoured("tools[].type", "`function`."),
    honoured("tools[].name", "1 to 64 letters, digits, `_` and `-`."),
    honoured("tools[].description", "Part of the prompt."),
    honoured("tools[].parameters", "The JSON schema of the arguments."),
    honoured("tools[].strict", "Accepted; arguments always match the schema."),
    refused("tools[].async", "Calls are part of the answer.", (False,)),
    refused("tools[].defer_loading", "There is no tool search.", (False,)),
    without_effect("tools[].allowed_callers", "The model is the only caller."),
    without_effect("tools[].output_schema", "LLaVA-1.5's prompt has no field for it."),
    honoured("tool_choice", "`none`, `auto`, `required`, one function, or `allowed_tools`."),
    honoured("tool_choice.type", "`function` or `allowed_tools`."),
    honoured("tool_choice.name", "The function that must be called."),
    honoured("tool_choice.mode", "`auto` or `required`."),
    honoured("tool_choice.tools", "The only functions that may be called."),
    honoured("tool_choice.tools[].type", "`function`."),
    honoured("tool_choice.tools[].name", "One of `tools`."),
    honoured("parallel_tool_calls", "Whether an answer may have several calls."),
    honoured(
        "truncation", "`auto`: the oldest images and turns are dropped if not all fit; `disabled`: 400."
    ),
    honoured("user", _ECHOED),
    honoured("safety_identifier", _ECHOED),
    honoured("prompt_cache_key", _ECHOED),
    refused("access_programs", "There are no programs.", ({},)),
    refused("background", "Responses are not generated in the background.", (False,)),
    refused("background_options", "Responses are not generated in the background.", ({},)),
    refused("context_management", "Conversations are not compacted; see `truncation`.", ([],)),
    refused("conversation", "Use `previous_response_id`."),
    without_effect("image", "Every image has the same number of tokens."),
    without_effect("max_tool_calls", "It limits OpenAI's built-in tools, which are not served."),
    refused("moderation", "No moderation model is served."),
    refused("prompt", "Prompts are not stored; send `instructions` and `input`."),
    honoured("prompt_cache_options", _NO_CACHE_HINTS),
    without_effect("prompt_cache_options.mode", _NO_CACHE_HINTS),
    without_effect("prompt_cache_options.ttl", _NO_CACHE_HINTS),
    without_effect("prompt_cache_options.comparison_response_id", _NO_CACHE_HINTS),
    refused("prompt_cache_options.prewarm", "Every request generates an answer.", (False,)),
    without_effect("prompt_cache_retention", _NO_CACHE_HINTS),
    without_effect("reasoning", _NO_REASONING),
    without_effect("service_tier", "There is one tier."),
)

_ITEMS: Final = (
    honoured(
        "input[].type",
        "`message`, `function_call`, `function_call_output`, `item_reference` or `reasoning`.",
    ),
    honoured("input[].role", "`system`, `developer` (the same), `user` or `assistant`."),
    honoured("input[].content", "Text, or a list of parts."),
    honoured(
        "input[].content[].type", "`input_text`, `input_image`, `input_file`, `output_text` or `refusal`."
    ),
    honoured("input[].content[].text", "Always plain text, even if it spells a special token."),
    honoured("input[].content[].refusal", "As text."),
    honoured("input[].content[].image_url", "A `data:` URL in base64, or an `http:` or `https:` URL."),
    honoured("input[].content[].file_id", "An uploaded image."),
    without_effect("input[].content[].detail", "LLaVA-1.5 sees every image at one size."),
    without_effect("input[].content[].annotations", "Answers have none."),
    without_effect("input[].content[].logprobs", "Answers may have them."),
    without_effect("input[].content[].prompt_cache_breakpoint", _NO_CACHE_HINTS),
    honoured("input[].content[].file_data", "An image in base64, or a `data:` URL of one."),
    honoured("input[].content[].file_url", "The URL of an image."),
    without_effect("input[].content[].filename", "An image's format is read from its bytes."),
    honoured("input[].id", "Of an `item_reference`: an item of a stored response."),
    without_effect("input[].phase", "Both phases are text of the assistant."),
    without_effect("input[].status", "Answers have this field."),
    honoured("input[].call_id", "The call that an output belongs to."),
    honoured("input[].name", "The function that was called."),
    honoured("input[].arguments", "JSON."),
    honoured("input[].output", "What the function returned: text, or a list of parts."),
    honoured("input[].output[].type", "`input_text`, `input_image` or `input_file`."),
    honoured("input[].output[].text", "The text."),
    honoured("input[].output[].image_url", "As in a message."),
    honoured("input[].output[].file_id", "As in a message."),
    without_effect("input[].output[].detail", "LLaVA-1.5 sees every image at one size."),
    without_effect("input[].output[].prompt_cache_breakpoint", _NO_CACHE_HINTS),
    honoured("input[].output[].file_data", "An image in base64, or a `data:` URL of one."),
    honoured("input[].output[].file_url", "The URL of an image."),
    without_effect("input[].output[].filename", "An image's format is read from its bytes."),
    without_effect("input[].caller", "The model is the only caller."),
    without_effect("input[].namespace", "Functions have no namespaces here."),
    refused("input[].async", "Calls are part of the answer.", (False,)),
    without_effect("input[].summary", _NO_REASONING),
    without_effect("input[].encrypted_content", _NO_REASONING),
)

_SAMPLING: Final = (
    honoured("seed", "A signed 64-bit integer."),
    honoured("stop", "A string, or up to sixteen; empty ones are left out."),
    honoured("presence_penalty", "-2 to 2."),
    honoured("frequency_penalty", "-2 to 2."),
    honoured("logit_bias", "Up to 300 token ids, each -100 to 100."),
    honoured("top_k", "-1 and 0 mean all."),
    honoured("min_p", "0 to 1."),
    honoured("repetition_penalty", "From 0.001 to 2."),
    honoured("min_tokens", "Minimum answer length in tokens."),
    honoured("ignore_eos", "Generation continues past the model's end token."),
    honoured("stop_token_ids", "Up to 64 token ids."),
    honoured(
        "stream_options.include_timing",
        "`usage.timing` in the last event has the milliseconds of each step, as in `Server-Timing`.",
    ),
    honoured("image_fit", "How an image is made square: `pad`, `crop` or `squash`."),
    honoured("image_history", "If not all images fit: `keep_last` drops the oldest, `strict` refuses."),
    honoured(
        "image_place", "`auto`: images first, unless there is text between two; `asked`: the client's order."
    ),
    honoured("continue_final_message", "The answer continues the last message, the assistant's."),
    without_effect("chat_template_kwargs", "The profile sets the prompt style."),
    without_effect("reasoning_effort", _NO_REASONING),
    *(without_effect(name, _NO_REASONING) for name in REASONING if name != "reasoning"),
)

RESPONSES: Final = Ledger(
    {
        "Responses: OpenAI's parameters": _REQUEST,
        "Responses: items of the input": _ITEMS,
        "Responses: chat's, vLLM's and the gateway's parameters": _SAMPLING,
    },
    messages="input",
)
