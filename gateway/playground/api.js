// Requests to the gateway. The API key is kept in this tab only.
const KEY = "gateway-api-key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

function headers() {
  const sent = { "content-type": "application/json" };
  if (key.get()) sent.authorization = `Bearer ${key.get()}`;
  return sent;
}

/** Fetch. Throws an Error with `away` set if the server cannot be reached. */
async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("the server cannot be reached"), { away: true });
  }
}

/** Return the response. Throws an Error with the server's message if it is not 2xx. */
export async function call(path, body, signal) {
  const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const answer = await reach(path, { ...options, headers: headers(), signal });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  const message = said?.error?.message ?? `the server answered ${answer.status}`;
  const { code, param } = said?.error ?? {};
  const retryAfter = Number(answer.headers.get("retry-after"));
  throw Object.assign(new Error(message), { status: answer.status, code, param, retryAfter });
}

/** Yield the chunks of a streamed chat completion. */
export async function* stream(body, signal) {
  const answer = await call("v1/chat/completions", body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : broken();
    });
    if (done) throw broken();
    held += value;
    const events = held.split("\n\n");
    held = events.pop();
    for (const event of events) {
      const line = event.split("\n").find((found) => found.startsWith("data: "));
      if (!line) continue;
      if (line === "data: [DONE]") return;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw Object.assign(new Error(chunk.error.message), chunk.error);
      yield chunk;
    }
  }
}

function broken() {
  return Object.assign(new Error("the answer broke off"), { broken: true });
}
