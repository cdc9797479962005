// The same request as code. The page shows data URLs cut short; what is copied has all of them.
import { made, button } from "./elements.js";

export function panel(request) {
  const { stream, stream_options, logprobs, ...all } = request; // The page's own needs.
  const root = new URL("v1", document.baseURI).href;
  const section = made("section", { className: "panel", ariaLabel: "As code" });
  for (const [name, write] of [["curl", curl], ["Python", python], ["JavaScript", javascript]]) {
    const shown = made("pre", { tabIndex: 0 }, write(root, all, short));
    const copy = button(`Copy ${name}`, async () => {
      await navigator.clipboard.writeText(write(root, all, (value) => value));
      copy.textContent = "Copied";
    });
    section.append(made("h3", {}, name), shown, copy);
  }
  return section;
}

function short(text) {
  return text.replaceAll(/(data:image\/[a-z+]+;base64,.{24})[A-Za-z0-9+/=]+/g, "$1…");
}

function curl(root, body, shorten) {
  // A here-document, since one argument of a command may have at most 128 KiB. No line of JSON is just `JSON`.
  return shorten(
    `curl ${root}/chat/completions -H 'content-type: application/json' -H "authorization: Bearer $API_KEY" --data-binary @- <<'JSON'
${JSON.stringify(body, null, 2)}
JSON
`,
  );
}

function python(root, body, shorten) {
  return shorten(`import json
from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(root)}, api_key="none")
request = json.loads(${JSON.stringify(JSON.stringify(body))})
print(client.chat.completions.create(**request).choices[0].message.content)
`);
}

function javascript(root, body, shorten) {
  return shorten(`import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${JSON.stringify(root)}, apiKey: "none" });
const reply = await client.chat.completions.create(${JSON.stringify(body, null, 2)});
console.log(reply.choices[0].message.content);
`);
}
