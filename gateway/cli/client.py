"""A client of a running gateway, and what its errors mean for a command."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import openai
import orjson
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from gateway.cli.common import BadInput, ExitCode, refused, uses_environment

RETRIES: Final = 8  # of a request that a full gateway refuses; the client waits longer each time
TIMEOUT: Final = 900  # seconds
ERROR_BYTES: Final = 300  # shown of an answer that is not OpenAI's
SERVER_ERRORS: Final = 500  # HTTP statuses from here on are the server's failures


@dataclass(frozen=True, slots=True)
class Server:
    """A running gateway, and how many requests it gets at once."""

    base_url: str
    api_key: str
    at_once: int = 1

    def client(self) -> OpenAI:
        http = DefaultHttpxClient(trust_env=uses_environment(self.base_url))
        return OpenAI(base_url=self.base_url, api_key=self.api_key or "none", http_client=http)

    @asynccontextmanager
    async def async_client(self) -> AsyncIterator[AsyncOpenAI]:
        """Yield a client that retries, once the gateway has answered. Raises openai.APIError."""
        async with AsyncOpenAI(
            base_url=self.base_url,
            api_key=self.api_key or "none",
            max_retries=RETRIES,
            timeout=TIMEOUT,
            http_client=DefaultAsyncHttpxClient(trust_env=uses_environment(self.base_url)),
        ) as made:
            # Otherwise each of many requests would keep retrying an address that does not answer.
            await made.with_options(max_retries=0).models.list()
            yield made


async def post(client: AsyncOpenAI, path: str, body: Any) -> tuple[int, bytes]:
    """Return the status and the JSON of the answer. Raises openai.APIConnectionError."""
    try:
        return 200, orjson.dumps(await client.post(path, body=body, cast_to=object))
    except openai.APIStatusError as error:
        return error.status_code, _as_json(error)


def _as_json(error: openai.APIStatusError) -> bytes:
    """Return the answer as an error object, also if a proxy before the gateway wrote it."""
    content = error.response.content
    with suppress(orjson.JSONDecodeError):
        found = orjson.loads(content)
        if isinstance(found, dict) and isinstance(found.get("error"), dict):
            return content
    message = content[:ERROR_BYTES].decode(errors="replace").strip() or error.response.reason_phrase
    return orjson.dumps({"error": {"message": message, "type": None, "param": None, "code": None}})


@contextmanager
def exits_on_errors(server: Server) -> Iterator[None]:
    """Print the client's and the input's errors in one line, and exit with the code for them."""
    try:
        yield
    except BadInput as error:
        raise refused(str(error)) from None
    except OSError as error:
        raise refused(f"{error.filename or 'output'}: {error.strerror}", ExitCode.FAILED) from None
    except openai.APIConnectionError:
        message = f"no gateway answers at {server.base_url}; `make serve` starts one"
        raise refused(message, ExitCode.NO_SERVER) from None
    except openai.AuthenticationError as error:
        raise refused(_key_problem(server, str(error)), ExitCode.UNAUTHORIZED) from None
    except openai.APIStatusError as error:
        code = ExitCode.SERVER_ERROR if error.status_code >= SERVER_ERRORS else ExitCode.REFUSED
        raise refused(str(error), code) from None
    except openai.APIError as error:  # in the middle of a stream
        raise refused(str(error), ExitCode.SERVER_ERROR) from None


def _key_problem(server: Server, answer: str) -> str:
    if not server.api_key:
        return f"the gateway at {server.base_url} asks for an API key; pass --api-key or set OPENAI_API_KEY"
    return f"the gateway at {server.base_url} refused the API key: {answer}"
