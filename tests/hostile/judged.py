"""Attacks on what the model judges: token ids, sampling, and schemas in each way to send one."""

from typing import Any

import orjson

from tests.api.asking import QUESTION, chat
from tests.api.wire import CHAT
from tests.hostile.doors import (
    COMPLETIONS,
    HUGE,
    INVALID,
    LONG,
    MISSING,
    RENDER,
    RESPONSES,
    UNKNOWN,
    UNSUPPORTED,
    Door,
    completion,
    deep,
    raw,
    response,
    rows_of,
)
from tests.hostile.stored import STORED


def _schema_doors() -> list[Door]:
    """Return each way to send a schema, with numbers in it that cannot be written again."""
    bad = {"integer": b'{"maximum":%b}' % HUGE, "infinity": b'{"maximum":1e400}'}
    named = b'{"type":"json_schema","json_schema":{"name":"x","schema":%b}}'
    found = []
    for name, schema in bad.items():
        ways = {
            "form": (CHAT, chat(), b'"response_format":' + named % schema),
            "rendered": (RENDER, chat(), b'"response_format":' + named % schema),
            "json": (CHAT, chat(), b'"structured_outputs":{"json":%b}' % schema),
            "text": (CHAT, chat(), b'"structured_outputs":{"json":%b}' % orjson.dumps(schema.decode())),
            "format": (
                RESPONSES,
                response(),
                b'"text":{"format":{"type":"json_schema","name":"x","schema":%b}}' % schema,
            ),
            "tool": (
                CHAT,
                chat(),
                b'"tools":[{"type":"function","function":{"name":"f","parameters":%b}}]' % schema,
            ),
            "tool of a response": (
                RESPONSES,
                response(),
                b'"tools":[{"type":"function","name":"f","parameters":%b}]' % schema,
            ),
        }
        found += [
            Door(f"schema of {name}, as {way}", path, raw(start, fields))
            for way, (path, start, fields) in ways.items()
        ]
    return found


_SCALARS: tuple[Any, ...] = (5, -1.5, True, [], [5], [[]], [{}])
OF_SCHEMAS = [
    *_schema_doors(),
    *(
        Door(f"schema that is {value!r}", CHAT, chat(structured_outputs={"json": value}))
        for value in _SCALARS
    ),
    Door("schema of text, 100,000 deep", CHAT, chat(structured_outputs={"json": "[" * 100_000})),
    Door("schema of text, 300 deep", CHAT, chat(structured_outputs={"json": deep(300).decode()})),
]

OF_TOKENS = [
    *(
        Door(f"tokenize {name}", "/tokenize", body, code)
        for name, body, code in (
            ("1 MB", {"prompt": "a" * 10**6}, LONG),
            ("nothing", {"prompt": ""}, None),
            ("null", {"prompt": None}, MISSING),
            ("a list", {"prompt": ["a"]}, INVALID),
            ("NUL", {"prompt": "\0"}, None),
            ("special tokens", {"prompt": "<image></s>" * 20}, None),
            ("text and chat", {"prompt": "a", "messages": []}, INVALID),
            ("a message that is a number", {"messages": [5]}, INVALID),
        )
    ),
    *(
        Door(f"detokenize {str(tokens)[:40]}", "/detokenize", {"tokens": tokens}, code)
        for tokens, code in (
            *(([value], INVALID) for value in (-1, 2**31, 10**6, 5.0, True, "5", [5], None)),
            *(([5] * count, INVALID) for count in (10**6, 200_000, 5000)),
            *(([], None), ([0, 1, 2, 3], None), (None, MISSING)),
        )
    ),
    Door("detokenize 10^30", "/detokenize", b'{"tokens":[%b]}' % HUGE),
    *(
        Door(f"render {name}", RENDER, chat(**fields), code)
        for name, fields, code in (
            ("no fits", {"render_fits": []}, INVALID),
            ("four fits", {"render_fits": ["pad"] * 4}, INVALID),
            ("an unknown fit", {"render_fits": ["x"]}, INVALID),
            ("1 MB", {"messages": [{**QUESTION, "content": "a" * 10**6}]}, LONG),
            ("special tokens", {"messages": [{**QUESTION, "content": "<image></s><s>\0"}]}, None),
        )
    ),
]


def of_completions(image_token: int) -> list[Door]:
    """Return those that the model judges too, in which `image_token` stands for an image."""
    bad_ids = ([image_token], [5, image_token, 6], [10**6], [2**63], [-1], [5, -1], [1.0], [5, True])
    none_of_one: tuple[Any, ...] = (["x", [5]], [[[5]]], {}, [], [[]], 5)
    rows: dict[str, tuple[dict[str, Any], str | None]] = {
        **{f"ids {ids}": ({"prompt": ids}, INVALID) for ids in bad_ids},
        **{f"prompt {prompt}": ({"prompt": prompt}, INVALID) for prompt in none_of_one},
        **{f"special id {id_}": ({"prompt": [id_]}, None) for id_ in range(3)},
        "100 times <s>": ({"prompt": [1] * 100}, None),
        "text of a special token": ({"prompt": "<image></s>"}, None),
        "nothing": ({"prompt": ""}, None),
        "NUL": ({"prompt": "a\0b"}, None),
        "10^6 ids": ({"prompt": [5] * 10**6}, INVALID),
        "200,000 ids": ({"prompt": [5] * 200_000}, LONG),
        "40 prompts of 5,000 ids": ({"prompt": [[5] * 5000] * 40}, LONG),
        "65 prompts": ({"prompt": ["x"] * 65}, INVALID),
        "64 prompts of 3 answers": ({"prompt": ["x"] * 64, "n": 3}, INVALID),
        "echo of likelihoods": ({"echo": True, "logprobs": 5, "max_tokens": 0, "prompt": "x y z"}, None),
        "echo of <s> alone": ({"echo": True, "logprobs": 5, "max_tokens": 0, "prompt": [1]}, None),
        "6 log probabilities": ({"logprobs": 6}, INVALID),
        "nothing new": ({"max_tokens": 0}, INVALID),
        "more than there may be": ({"min_tokens": 5}, INVALID),
        **{
            name: ({name: value}, UNSUPPORTED)
            for name, value in {
                "suffix": "x",
                "best_of": 5,
                "prompt_logprobs": 5,
                "cache_salt": "x",
                "regex": "a",
                "structured_outputs": {"regex": "a"},
                "truncate_prompt_tokens": 5,
                "top_logprobs": 1,
            }.items()
        },
        "prompt_embeds": ({"prompt_embeds": "AAAA"}, UNKNOWN),
        "a bias for the image's token": ({"logit_bias": {str(image_token): 100}}, None),
        "an end at the image's token": ({"stop_token_ids": [image_token]}, None),
    }
    return [*rows_of(COMPLETIONS, completion, rows), *OF_SAMPLING]


OF_SAMPLING = [
    *(
        Door(f"{name} {str(value)[:30]}", CHAT, chat(**{"max_tokens": 4, name: value}), code)
        for name, value, code in (
            *(("bad_words", value, UNSUPPORTED) for value in (["x"], ["x"] * 10_000)),
            *(("prompt_logprobs", value, UNSUPPORTED) for value in (-1, 0, 5)),
            *(("priority", value, UNSUPPORTED) for value in (-(10**9), 1)),
            *(("cache_salt", value, UNSUPPORTED) for value in ("", "another's")),
            *(("logit_bias", {str(name): 1}, INVALID) for name in (10**6, "٥", " 5", "+5", "5.0", "1e1", "")),
            *(("logit_bias", {str(id_): 1 for id_ in range(count)}, INVALID) for count in (301, 10_000)),
            *(("stop_token_ids", value, INVALID) for value in ([5] * 65, [10**6], [5.0], [True])),
            *(("min_tokens", value, INVALID) for value in (5, 10**6)),
            *(("top_logprobs", value, INVALID) for value in (3, 21)),
            ("echo", True, UNSUPPORTED),
            ("allowed_token_ids", [5], UNSUPPORTED),
            ("logits_processors", ["os.system"], UNSUPPORTED),
            ("chat_template", "{{ 7*7 }}", UNSUPPORTED),
            ("kv_transfer_params", {"do_remote_prefill": True}, UNSUPPORTED),
            ("mm_processor_kwargs", {"size": 10**9}, UNSUPPORTED),
            ("extra_args", {"a": 1}, UNKNOWN),
            ("tools", [{"type": "function", "function": {"name": f"f{i}"}} for i in range(10_000)], INVALID),
            *(
                ("tools", [{"type": "function", "function": {"name": name}}], INVALID)
                for name in ("", "a\0", "a\n", "é", "f" * 65)
            ),
        )
    ),
]


def doors(image_token: int) -> list[Door]:
    """Return all; `image_token` is the model's."""
    return [
        *(*STORED, *OF_SCHEMAS, *OF_TOKENS),
        *of_completions(image_token),
    ]
