// OpenAI's own JavaScript package.
import OpenAI from "openai";
import { ANSWER, AWAY, CIRCLE, KEY, LIMITED, MODEL, QUESTION, URL_, asked, expect, leaving, rejects, run, twice } from "./shared.mjs";

const client = new OpenAI({ baseURL: URL_, apiKey: KEY, maxRetries: 0 });
const ask = (fields = {}) =>
  client.chat.completions.create({ model: MODEL, messages: [asked()], temperature: 0, ...fields });
const tool = {
  type: "function",
  function: {
    name: "note",
    description: "Notes how many shapes there are.",
    parameters: {
      type: "object",
      properties: { count: { type: "integer", minimum: 0, maximum: 9 } },
      required: ["count"],
      additionalProperties: false,
    },
  },
};

await run({
  async whole() {
    expect((await ask()).choices[0].message.content, ANSWER);
  },
  async streamed() {
    let text = "";
    for await (const chunk of await ask({ stream: true })) text += chunk.choices[0].delta.content ?? "";
    expect(text, ANSWER);
  },
  async turns() {
    const stream = client.chat.completions.stream({ model: MODEL, messages: [asked()], temperature: 0 });
    const first = (await stream.finalChatCompletion()).choices[0].message;
    const reply = await ask({ messages: [asked(), first, { role: "user", content: "What colour is the star?" }] });
    expect(reply.choices[0].message.content, "Red.");
  },
  async structured() {
    const schema = tool.function.parameters;
    const reply = await ask({
      response_format: { type: "json_schema", json_schema: { name: "shape", strict: true, schema } },
    });
    expect(typeof JSON.parse(reply.choices[0].message.content).count, "number");
  },
  async tool() {
    const reply = await ask({ tools: [tool], tool_choice: "required" });
    expect(reply.choices[0].message.tool_calls[0].function.name, "note");
  },
  async errors() {
    await rejects((error) => error instanceof OpenAI.BadRequestError, () => ask({ n: 0 }));
    await rejects((error) => error instanceof OpenAI.NotFoundError, () => ask({ model: "no-such" }));
    const wrong = new OpenAI({ baseURL: URL_, apiKey: "sk-wrong", maxRetries: 0 });
    await rejects((error) => error instanceof OpenAI.AuthenticationError, () => wrong.models.list());
    const limited = new OpenAI({ baseURL: URL_, apiKey: LIMITED, maxRetries: 0 });
    const away = new OpenAI({ baseURL: AWAY, apiKey: KEY, maxRetries: 0 });
    const asking = (client) => client.chat.completions.create({ model: MODEL, messages: [asked()] });
    await rejects((error) => error instanceof OpenAI.RateLimitError, () => twice(() => asking(limited)));
    await rejects((error) => error instanceof OpenAI.InternalServerError, () => asking(away));
  },
  async abort() {
    const fields = { stream: true, max_tokens: 2000, ignore_eos: true, messages: [asked(QUESTION, CIRCLE)] };
    await leaving(async () => {
      const stream = await ask(fields);
      for await (const _ of stream) break;
      stream.controller.abort();
    });
  },
});
