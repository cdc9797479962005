// Vercel's AI SDK: @ai-sdk/openai-compatible, and @ai-sdk/openai through both of its doors.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateText, streamText, tool } from "ai";
import { z } from "zod";
import { ANSWER, AWAY, KEY, LIMITED, MODEL, QUESTION, STAR, URL_, expect, leaving, rejects, run, twice } from "./shared.mjs";

const doors = (key = KEY, model = MODEL, url = URL_, rest = {}) => {
  const openai = createOpenAI({ baseURL: url, apiKey: key, ...rest });
  const compatible = createOpenAICompatible({
    name: "gateway",
    baseURL: url,
    apiKey: key,
    ...rest,
    supportsStructuredOutputs: true,
  });
  return [compatible(model), openai.chat(model), openai(model)];
};
const first = {
  role: "user",
  content: [
    { type: "image", image: STAR },
    { type: "text", text: QUESTION },
  ],
};
const options = (model, rest = {}) => ({
  model,
  messages: [first],
  temperature: 0,
  maxRetries: 0,
  maxOutputTokens: 128,
  ...rest,
});
const shape = z.object({ count: z.number().int().min(0).max(9) });
const each = (work) => async () => {
  for (const door of doors()) await work(door);
};

await run({
  whole: each(async (door) => expect((await generateText(options(door))).text, ANSWER)),
  streamed: each(async (door) => {
    let text = "";
    for await (const piece of streamText(options(door)).textStream) text += piece;
    expect(text, ANSWER);
  }),
  turns: each(async (door) => {
    const { response } = await generateText(options(door));
    const messages = [first, ...response.messages, { role: "user", content: "What colour is the star?" }];
    expect((await generateText(options(door, { messages }))).text, "Red.");
  }),
  structured: each(async (door) => {
    const reply = await generateText(options(door, { output: Output.object({ schema: shape }) }));
    expect(typeof reply.output.count, "number");
  }),
  tool: each(async (door) => {
    const tools = { note: tool({ description: "Notes how many shapes there are.", inputSchema: shape }) };
    const reply = await generateText(options(door, { tools, toolChoice: "required" }));
    expect(reply.toolCalls[0].toolName, "note");
  }),
  async errors() {
    const failed = (status) => (error) => APICallError.isInstance(error) && error.statusCode === status;
    for (const door of doors("sk-wrong")) await rejects(failed(401), () => generateText(options(door)));
    for (const door of doors(KEY, "no-such")) await rejects(failed(404), () => generateText(options(door)));
    for (const door of doors()) await rejects(failed(400), () => generateText(options(door, { temperature: 3 })));
    for (const door of doors(LIMITED)) await rejects(failed(429), () => twice(() => generateText(options(door))));
    for (const door of doors(KEY, MODEL, AWAY)) await rejects(failed(503), () => generateText(options(door)));
  },
  async abort() {
    // The providers' own hook for fields that they do not know.
    const long = (url, init) => fetch(url, { ...init, body: JSON.stringify({ ...JSON.parse(init.body), ignore_eos: true }) });
    for (const door of doors(KEY, MODEL, URL_, { fetch: long })) {
      await leaving(async () => {
        const stop = new AbortController();
        const stream = streamText(options(door, { maxOutputTokens: 2000, abortSignal: stop.signal, onError() {} }));
        for await (const _ of stream.textStream) {
          stop.abort();
          break;
        }
      });
    }
  },
});
