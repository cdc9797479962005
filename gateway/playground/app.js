// Wires the page together.
import { key } from "./api.js";
import * as chats from "./chats.js";
import * as composer from "./composer.js";
import * as conversation from "./conversation.js";
import { at, iconButton, made } from "./elements.js";
import { explain } from "./errors.js";
import { drawIcons, icon } from "./icons.js";
import { fillDrawer } from "./settings.js";
import { EXAMPLES } from "./shapes.js";
import * as status from "./status.js";
import * as store from "./store.js";

const DEMO = "This is the demo model: it knows coloured shapes, and nothing else. For photographs, start the 7B: ";

/** Show an error in plain words, with the server's message below; hide it for null. */
function fail(error, messages) {
  at("error").hidden = error === null;
  at("error").replaceChildren();
  if (error === null) return;
  const { text, detail } = explain(error, messages);
  at("error").append(made("p", {}, text));
  if (detail) at("error").append(made("small", {}, detail));
  if (error.status === 401) at("key-field").hidden = false;
}

function learned() {
  at("demo-note").hidden = !status.isDemo();
  at("demo-note").replaceChildren(DEMO, made("code", {}, "make serve PROFILE=llava-1.5-7b"));
  fillDrawer(status.model().gateway.prompt_style, closer("settings"));
  showContext(composer.draft());
}

/** Show how much of the context is used. */
function showContext(draft) {
  const found = conversation.filled(draft);
  at("context").hidden = !found || found.used === 0;
  if (!found) return;
  Object.assign(at("fill"), { max: found.of, low: 0.6 * found.of, high: 0.85 * found.of, optimum: 0, value: found.used });
  const full = found.used > 0.9 * found.of ? "; the oldest pictures will be left out" : "";
  at("context").lastChild.textContent = `about ${found.used} of ${found.of} tokens${full}`;
}

/** Return a function that creates a drawer's close button, which also returns the focus. */
function closer(id) {
  return () => iconButton(`Close ${id}`, "close", () => toggleDrawer(id, false));
}

function toggleDrawer(id, open = at(id).hidden) {
  at(id).hidden = !open;
  at(`show-${id}`).ariaExpanded = String(open);
  (open ? at(id).querySelector("button, input, textarea") : at(`show-${id}`))?.focus();
}

async function showChats() {
  await chats.draw(conversation.chat.id, {
    open: (chat) => {
      conversation.open(chat);
      toggleDrawer("chats", false);
    },
    removed: (id) => {
      if (id === null || id === conversation.chat.id) conversation.open();
      showChats();
    },
    close: closer("chats"),
  });
}

/** Read the page's set-up: whether many people share it, and its examples. */
async function setUp() {
  const set = await fetch("playground/setup.json").then((answer) => answer.json(), () => ({ share: false, examples: [] }));
  if (set.share) {
    store.keepNothing();
    at("show-chats").hidden = true;
  }
  drawExamples(set.examples.length ? set.examples : EXAMPLES);
}

function drawExamples(examples) {
  for (const { text, pictures } of examples) {
    const use = made("button", { type: "button" });
    use.onclick = async () => {
      if (conversation.isRunning()) return;
      const urls = await Promise.all(pictures.map(composer.inlined));
      composer.fill(text, urls.map((url) => ({ url, preview: url })));
      at("text").focus();
      conversation.send();
    };
    const drawn = made("span", { className: "drawn" }, ...pictures.map((url) => made("img", { src: url, alt: "" })));
    use.append(drawn, made("span", {}, text));
    at("examples").append(use);
  }
}

drawIcons();
at("send").append(icon("stop"));
composer.start({ limits: status.limits, fail, changed: showContext });
conversation.start(fail, setUp());
status.start({ fail, learned });
fillDrawer(null, closer("settings"));

at("ask").onsubmit = (event) => {
  event.preventDefault();
  if (conversation.isRunning()) conversation.stop();
  else conversation.send();
};
at("text").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    conversation.send();
  }
};
at("new").onclick = () => {
  conversation.open();
  composer.fill("", []);
  at("text").focus();
};
at("cancel-edit").onclick = conversation.cancelEdit;
at("show-settings").onclick = () => toggleDrawer("settings");
at("show-chats").onclick = async () => {
  await showChats();
  toggleDrawer("chats");
};
document.onkeydown = (event) => {
  if (event.key !== "Escape") return;
  for (const id of ["chats", "settings"]) if (!at(id).hidden) toggleDrawer(id, false);
};
at("model").onchange = learned;
at("key").value = key.get();
at("key").onchange = () => {
  key.set(at("key").value.trim());
  fail(null);
  status.name();
};
