"""From chunks to the typed events of a response. Pure: no I/O, no clock.

The events are OpenAI's, in OpenAI's order (https://platform.openai.com/docs/api-reference/responses-streaming):

    response.created, response.in_progress
    for each item   response.output_item.added
                    a call: response.function_call_arguments.delta …, response.function_call_arguments.done
                    a message: response.content_part.added, response.output_text.delta …,
                               response.output_text.done, response.content_part.done
                    response.output_item.done
    response.completed, response.incomplete or response.failed

A non-streamed answer is the response in the last event.
"""

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

from gateway.errors import GatewayError
from gateway.generation.reply import packed
from gateway.schema import sse
from gateway.schema.chat_answer import AnswerLogprob, CallPiece, Chunk
from gateway.schema.responses_answer import (
    ArgumentsDelta,
    ArgumentsDone,
    ErrorEvent,
    Event,
    FunctionCall,
    IncompleteDetails,
    ItemEvent,
    OutputItem,
    OutputMessage,
    OutputText,
    PartEvent,
    PartKind,
    Response,
    ResponseError,
    ResponseEvent,
    ResponseStatus,
    ResponseUsage,
    TextDelta,
    TextDone,
)


class ResponseEvents:
    """The events of one response, which is `response` while it has no output yet."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._next = 0
        self._done: list[OutputItem] = []
        self._message: _Message | None = None
        self._open_call: _Call | None = None
        self._wordless: list[
            AnswerLogprob
        ] = []  # of tokens that are no words yet, or a call's, which has none
        self._status: ResponseStatus = "completed"

    def begin(self) -> Iterator[Event]:
        yield ResponseEvent("response.created", self._number(), self._response)
        yield ResponseEvent("response.in_progress", self._number(), self._response)

    def chunk(self, chunk: Chunk) -> Iterator[Event]:
        """Yield the events for what `chunk` adds."""
        chunk = packed(chunk)  # what is said now is said again at the end
        logprobs = chunk.logprobs.content if chunk.logprobs else []
        if chunk.content or (logprobs and self._message):
            yield from self._text(chunk.content, logprobs)
        else:
            self._wordless += logprobs
        for piece in chunk.tool_calls:
            yield from self._call(piece)
        if chunk.finish_reason == "length":
            self._status = "incomplete"

    def more_text(self, chunk: Chunk) -> bytes | None:
        """Return the event, as bytes, of a `chunk` that only goes on with the text; None of any other.

        Nearly every token is such a chunk, and this is the short way.
        """
        message = self._message
        if message is None or chunk.logprobs or chunk.finish_reason or chunk.tool_calls:
            return None
        message.texts.append(chunk.content)
        return sse.text_delta(message.head, chunk.content, self._number())

    def close(self) -> Iterator[Event]:
        """Yield what is left of the items after the last chunk."""
        if not (self._message or self._open_call or self._done):
            yield from self._text("", [])  # an answer without words is a message all the same
        yield from self._close_item()

    def end(self, usage: ResponseUsage, now: int) -> ResponseEvent:
        """Return the last event, which has the complete response. `now` is in Unix seconds."""
        response = replace(self._response, status=self._status, output=self._done, usage=usage)
        if self._status == "incomplete":
            response = replace(response, incomplete_details=IncompleteDetails("max_output_tokens"))
            return ResponseEvent("response.incomplete", self._number(), response)
        return ResponseEvent("response.completed", self._number(), replace(response, completed_at=now))

    def fail(self, error: GatewayError) -> Iterator[Event]:
        """Yield the end of an answer that cannot go on."""
        details = {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
        yield ErrorEvent(
            sequence_number=self._number(),
            code=error.code,
            message=error.message,
            param=error.param,
            error=details,
        )
        failed = ResponseError("server_error", error.message)
        response = replace(self._response, status="failed", error=failed, output=self._done)
        yield ResponseEvent("response.failed", self._number(), response)

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _text(self, text: str, logprobs: list[AnswerLogprob]) -> Iterator[Event]:
        message = self._message
        if message is None:
            message = self._message = _Message(len(self._done))
            logprobs = self._wordless + logprobs
            yield ItemEvent(
                "response.output_item.added", self._number(), message.index, OutputMessage(id=message.id)
            )
            yield self._part("response.content_part.added", message, OutputText())
        message.texts.append(text)
        message.logprobs += logprobs
        if text or logprobs:
            yield TextDelta(
                sequence_number=self._number(),
                item_id=message.id,
                output_index=message.index,
                delta=text,
                logprobs=logprobs,
            )

    def _close_message(self, status: ResponseStatus) -> Iterator[Event]:
        if (message := self._message) is None:
            return
        self._message = None
        text = OutputText(text="".join(message.texts), logprobs=message.logprobs)
        yield TextDone(
            sequence_number=self._number(),
            item_id=message.id,
            output_index=message.index,
            text=text.text,
            logprobs=text.logprobs,
        )
        yield self._part("response.content_part.done", message, text)
        yield from self._item_done(OutputMessage(id=message.id, status=status, content=[text]))

    def _call(self, piece: CallPiece) -> Iterator[Event]:
        if piece.id is not None and piece.name is not None:
            yield from self._close_item(last=False)
            self._open_call = begun = _Call(len(self._done), piece.id, piece.name)
            item = begun.item("in_progress")
            yield ItemEvent("response.output_item.added", self._number(), begun.index, item)
        if piece.arguments and (call := self._open_call):
            call.arguments.append(piece.arguments)
            yield ArgumentsDelta(
                sequence_number=self._number(),
                item_id=call.id,
                output_index=call.index,
                delta=piece.arguments,
            )

    def _close_item(self, *, last: bool = True) -> Iterator[Event]:
        """Yield the end of the item that is being written; what is cut can only be the `last`."""
        status = self._status if last else "completed"
        yield from self._close_message(status)
        if (call := self._open_call) is None:
            return
        self._open_call = None
        item = call.item(status)
        yield ArgumentsDone(
            sequence_number=self._number(),
            item_id=call.id,
            output_index=call.index,
            arguments=item.arguments,
        )
        yield from self._item_done(item)

    def _item_done(self, item: OutputItem) -> Iterator[Event]:
        yield ItemEvent("response.output_item.done", self._number(), len(self._done), item)
        self._done.append(item)

    def _part(self, kind: PartKind, message: "_Message", part: OutputText) -> Event:
        return PartEvent(
            type=kind,
            sequence_number=self._number(),
            item_id=message.id,
            output_index=message.index,
            part=part,
        )


class _Message:
    """The message that is being written."""

    def __init__(self, index: int) -> None:
        self.id = f"msg_{uuid4().hex}"
        self.index = index
        self.head = sse.text_delta_head(self.id, index)
        self.texts: list[str] = []
        self.logprobs: list[AnswerLogprob] = []


class _Call:
    """The call of a function that is being written."""

    def __init__(self, index: int, call_id: str, name: str) -> None:
        self.id = f"fc_{uuid4().hex}"
        self.index = index
        self.arguments: list[str] = []
        self._call_id = call_id
        self._name = name

    def item(self, status: ResponseStatus) -> FunctionCall:
        """Return the item with the arguments so far."""
        return FunctionCall(
            id=self.id,
            status=status,
            arguments="".join(self.arguments),
            call_id=self._call_id,
            name=self._name,
        )
