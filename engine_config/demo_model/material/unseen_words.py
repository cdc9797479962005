"""Words for the evaluation only: other forms, other words, other prose."""

from engine_config.demo_model.material.words import Words

UNSEEN = Words(
    notes=(
        '<uploads>\n<upload key="{uuid}" mime="{type}" title="{name}" href="{url}"/>\n</uploads>\n\n',
        "Uploaded: {name}; stored under {url}; {number} KB\n\n",
        "## Attachments\n1. `{name}` (added {date})\n\n",
        '{{"attachments": [{{"filename": "{name}", "blob": "{uuid}", "length": {number}}}]}}\n\n',
        "<!-- {name} was converted to {type} -->\n",
        "Somebody sent me this from {url} yesterday evening and I wonder about it. ",
        "Search results:\n[1] {prose}\n[2] {url}\n\n",
        "--- begin of memory ---\n{prose}\n--- end of memory ---\n\n",
    ),
    roles=(
        "You are Robin, the voice of a museum's guide.",
        "As a multimodal agent, you support customers of an online shop.",
        "You serve as a reviewer of drawings for a kindergarten.",
    ),
    rules=(
        "Refuse whatever may harm anybody.",
        "Write as journalists do: plainly, without adjectives.",
        "Conversation started at {date}; the session is {uuid}.",
        "Cite {url} whenever money is mentioned.",
        "Jokes are welcome as long as they are kind.",
        "{prose}",
    ),
    greetings=(
        "Good evening! ",
        "Howdy, ",
        "Sorry to bother you again. ",
        "Alright then. ",
        "Greetings, robot! ",
    ),
    endings=(
        " Many thanks in advance!",
        " My boss wants to know.",
        "\n\n-- \n{word}, {date}",
        " See also {url}",
        " No explanation needed.",
    ),
    chats=(
        ("Good evening, may I bother you?", "Certainly, go ahead."),
        ("What's the capital of Norway?", "Oslo is the capital of Norway."),
        ("Summarise this: {prose}", "It says: {prose}"),
        ("I like long walks with my dog {word}.", "{word} is a lovely name for a dog!"),
    ),
    names=("DSC{number}.JPG", "my {word} (final).png", "{word}_{date}.bmp", "clipboard-{uuid}.gif"),
    hosts=(
        "storage.googleapis.com/{word}",
        "intranet.{word}.de",
        "192.168.1.20:9000",
        "{word}.s3.amazonaws.com",
    ),
    modules=(
        "ast",
        "bisect",
        "copy",
        "difflib",
        "fractions",
        "gettext",
        "imaplib",
        "pprint",
        "statistics",
        "tarfile",
    ),
    phrasings={
        "describe": (
            "Please describe what the picture shows.",
            "What's in the photo?",
            "What have we got in this picture?",
            "Give me a short description of this image.",
        ),
        "colour": (
            "What {word} has {it} got?",
            "Could you name {it}'s {word}?",
            "{It}: which {word}?",
        ),
        "count": (
            "How many shapes have been drawn?",
            "How many different shapes are in this picture?",
            "Please count all shapes.",
        ),
        "shape": ("What's the {colour} thing?", "Which figure is {colour}?", "The {colour} shape is a what?"),
        "exists": (
            "Has the picture got {a}?",
            "Any chance there is {a}?",
            "Could you check whether there is {a}?",
        ),
        "side": (
            "Which lies more to the {side}: the {one} or the {other}?",
            "What's further to the {side}, the {one} or the {other}?",
        ),
        "which picture": ("Which of these images contains the {kind}?", "The {kind} is in which picture?"),
    },
    requests=("Would you mind telling me: ", "One more: ", "For my notes: "),
)
