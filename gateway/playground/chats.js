// The list of chats, in a drawer.
import { at, button, iconButton, made } from "./elements.js";
import * as store from "./store.js";

/** Draw the list. `open(chat)` shows a chat; `removed(id)` is called after a deletion; `close()` creates the close button. */
export async function draw(currentId, { open, removed, close }) {
  const rows = (await store.list()).map((chat) => {
    const when = new Date(chat.updated).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const show = made("button", { type: "button", className: "chat", onclick: () => open(chat) }, made("span", {}, chat.title), made("small", {}, when));
    if (chat.id === currentId) show.ariaCurrent = "true";
    const save = iconButton(`Save as JSON: ${chat.title}`, "save", () => download(chat));
    const bin = iconButton(`Delete: ${chat.title}`, "bin", async () => {
      await store.remove(chat.id);
      removed(chat.id);
    });
    return made("li", {}, show, save, bin);
  });
  const head = made("div", { className: "row" }, made("h2", {}, "Chats"), made("span", { className: "space" }), close());
  const note = made("p", { className: "soft" }, rows.length ? "Kept in this browser only." : "No chats yet. They are kept in this browser only.");
  const all = rows.length ? [button("Delete all", async () => {
    for (const { id } of await store.list()) await store.remove(id);
    removed(null);
  }, "bin")] : [];
  at("chats").replaceChildren(head, note, made("ul", {}, ...rows), ...all);
}

/** Save a chat as JSON: OpenAI's messages with their pictures, and all answers to each question. */
function download(chat) {
  const messages = chat.turns.flatMap(({ text, pictures, variants, chosen }) => [
    { role: "user", content: [...pictures.map(({ url }) => ({ type: "image_url", image_url: { url } })), ...(text ? [{ type: "text", text }] : [])] },
    { role: "assistant", content: variants[chosen].text },
  ]);
  const answers = chat.turns.map(({ variants }) => variants.map(({ text, settings, usage, finish }) => ({ text, settings, usage, finish })));
  const file = new Blob([JSON.stringify({ title: chat.title, messages, answers }, null, 2)], { type: "application/json" });
  const link = made("a", { href: URL.createObjectURL(file), download: `${chat.title.replaceAll(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40)}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
