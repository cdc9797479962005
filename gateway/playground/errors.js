// Explains errors in plain words and says what to do. The server's message is shown below, in small print.
const KIND = {
  invalid_image: "cannot be opened as a picture. Remove it, or choose another.",
  image_too_large: "is too large. Use a smaller copy of it.",
  unsupported_image_format: "is not of a kind that can be read here. Save it as JPEG or PNG, or remove it.",
  image_fetch_failed: "could not be fetched from its address. Save it to this device, and add it from there.",
};

const SAY = {
  too_many_images: "There are more pictures than the model can look at together. Remove some, or start a new chat.",
  context_length_exceeded: "The conversation is longer than the model can read. Start a new chat, or shorten the question.",
  request_too_large: "The pictures of this chat are too large together. Remove some, or start a new chat.",
  invalid_api_key: "This server needs an API key. Enter yours below, then send again.",
  overloaded: "The server is busy: its queue is full. Your question is in the box; send it again in a moment.",
  rate_limit_exceeded: "You have reached your limit of requests. Your question is in the box.",
  engine_not_ready: "The model is still starting. Your question is in the box; send it when the status says ready.",
  engine_died: "The engine stopped and is being restarted. Send the question again when the status says ready.",
  engine_stalled: "The model stopped answering. Send the question again.",
  deadline_exceeded: "The answer took too long. Ask for a shorter one, or try again later.",
  shutting_down: "The server is shutting down. Send the question again when it is back.",
  poison_request: "The engine cannot work on this question. Change it, or its pictures.",
};

/** Return `{text, detail}`. `messages` are the request's, to name the refused picture. */
export function explain(error, messages = []) {
  if (error.local) return { text: error.message };
  if (error.away) return { text: "The server cannot be reached. Your question is in the box; send it again when the server is back." };
  if (error.broken) return { text: "The connection broke before the answer was complete. Send the question again." };
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  if (KIND[error.code]) return { text: `${which(error.param, messages)} ${KIND[error.code]}`, detail: withoutPath(error) };
  if (SAY[error.code]) return { text: SAY[error.code] + wait, detail: error.message };
  return { text: "The server refused the question. Change it, or its settings.", detail: error.message };
}

/** Return "Picture 2", counted within its message, and that the message is an earlier one if so. */
function which(param, messages) {
  const found = /^messages\[(\d+)\]\.content\[(\d+)\]/.exec(param ?? "");
  if (!found) return "A picture";
  const [turn, part] = [Number(found[1]), Number(found[2])];
  const before = messages[turn]?.content.slice?.(0, part) ?? [];
  const place = before.filter?.(({ type }) => type === "image_url").length ?? 0;
  return `Picture ${place + 1}${turn < messages.length - 1 ? " of an earlier question" : ""}`;
}

function withoutPath({ message, param }) {
  return param && message.startsWith(`${param}: `) ? message.slice(param.length + 2) : message;
}
