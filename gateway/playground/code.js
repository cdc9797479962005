// The request as code. Data URLs are shortened on the page but copied in full.
import { button, copy, made } from "./elements.js";

const WRITERS = [["curl", curl], ["Python", python], ["JavaScript", javascript]];

export function panel(request) {
  const root = new URL("v1", document.baseURI).href;
  const section = made("section", { className: "panel", ariaLabel: "As code" });
  for (const [name, write] of WRITERS) {
    const shown = made("pre", { tabIndex: 0, ariaLabel: name }, write(root, request, short));
    const control = button(`Copy ${name}`, () => copy(write(root, request, (value) => value), control), "copy");
    section.append(made("div", { className: "row" }, made("h3", {}, name), made("span", { className: "space" }), control), shown);
  }
  return section;
}

function short(text) {
  return text.replaceAll(/(data:image\/[a-z+]+;base64,.{24})[A-Za-z0-9+/=]+/g, "$1…");
}

function curl(root, body, shorten) {
  // A here-document, because one argument of a command is limited to 128 KiB. No line of JSON is just `JSON`.
  return shorten(
    `curl ${root}/chat/completions -H 'content-type: application/json' -H "authorization: Bearer \${OPENAI_API_KEY:-none}" --data-binary @- <<'JSON'
${JSON.stringify(body, null, 2)}
JSON
`,
  );
}

function python(root, body, shorten) {
  return shorten(`import json, os
from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(root)}, api_key=os.environ.get("OPENAI_API_KEY", "none"))
request = json.loads(${JSON.stringify(JSON.stringify(body))})
print(client.chat.completions.create(**request).choices[0].message.content)
`);
}

/** Uses only `fetch`: runs in Node 18 or later, Deno and Bun without packages. */
function javascript(root, body, shorten) {
  return shorten(`const reply = await fetch(${JSON.stringify(`${root}/chat/completions`)}, {
  method: "POST",
  headers: { "content-type": "application/json", authorization: \`Bearer \${process.env.OPENAI_API_KEY ?? "none"}\` },
  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),
});
const said = await reply.json();
console.log(reply.ok ? said.choices[0].message.content : said.error.message);
`);
}
