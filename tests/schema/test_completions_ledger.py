"""The ledger of completions: it knows every field of OpenAI's, and what it honours is what a request has."""

from openai.types import completion_create_params

from gateway.schema.completions import CompletionRequest
from gateway.schema.ledger import Verdict
from gateway.schema.parameters import COMPLETIONS
from tests.each import each
from tests.schema.openai_fields import fields
from tests.schema.test_ledger import in_schema

OPENAI = sorted(
    {
        *fields(completion_create_params.CompletionCreateParamsNonStreaming),
        *fields(completion_create_params.CompletionCreateParamsStreaming),
    }
)


@each("name", OPENAI)
def test_the_ledger_knows_every_field_of_openais(name: str) -> None:
    assert COMPLETIONS.row(name) is not None


def test_what_is_honoured_is_what_a_request_has() -> None:
    schema = CompletionRequest.model_json_schema()
    honoured = {row.field for row in COMPLETIONS.rows() if row.verdict is Verdict.HONOURED}
    # Drawing's fields are all taken over from chat, but for this one, which is `logprobs` here.
    assert honoured == set(in_schema(schema, schema["$defs"])) - {"top_logprobs"}
