// The chat: pictures in, the answer streamed, what the model saw beside it.
import { call, key, stream } from "./api.js";
import { panel as codePanel } from "./code.js";
import { button, made } from "./elements.js";
import { panel as sawPanel } from "./saw.js";
import { EXAMPLES } from "./shapes.js";

const at = (id) => document.getElementById(id);
let messages = [];
let pictures = [];
let model = null;
let running = null;

async function watch() {
  try {
    const health = await fetch("health/ready");
    const state = await health.json();
    showProgress(state.progress);
    if (health.ok) {
      await name();
      return;
    }
    at("status").textContent = `${state.status}: ${state.stage ?? ""} (${Math.round(state.seconds ?? 0)} s)`;
  } catch {
    at("status").textContent = "the server cannot be reached";
  }
  setTimeout(watch, 1000);
}

/** Show how many bytes of the weights are fetched or loaded, while the start does that. */
function showProgress(progress) {
  at("progress").hidden = !progress;
  if (!progress) return;
  at("progress").max = progress.total_bytes;
  at("progress").value = progress.done_bytes;
}

async function learnModel() {
  const { data } = await (await call("v1/models")).json();
  model = data[0].id;
}

async function name() {
  try {
    await learnModel();
    at("status").textContent = `${model}: ready`;
    fail(null);
  } catch (error) {
    if (error.status === 401) at("key-field").hidden = false;
    at("status").textContent = "ready";
    fail(error);
  }
}

function fail(error) {
  at("error").hidden = error === null;
  at("error").textContent = error?.message ?? "";
}

async function add(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) continue;
    pictures.push(await dataURL(file));
  }
  showPictures();
}

function dataURL(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function showPictures() {
  const items = pictures.map((url, place) => {
    const remove = button("Remove", () => {
      pictures.splice(place, 1);
      showPictures();
    });
    remove.ariaLabel = `Remove picture ${place + 1}`;
    return made("li", {}, made("img", { src: url, alt: `Picture ${place + 1}` }), remove);
  });
  at("pictures").replaceChildren(...items);
}

function send() {
  const text = at("text").value.trim();
  if (running || !(text || pictures.length)) return;
  const parts = pictures.map((url) => ({ type: "image_url", image_url: { url } }));
  if (text) parts.push({ type: "text", text });
  messages.push({ role: "user", content: parts });
  showUser(pictures, text);
  pictures = [];
  at("text").value = "";
  showPictures();
  answer();
}

function showUser(urls, text) {
  const images = urls.map((url, place) => made("img", { src: url, alt: `Your picture ${place + 1}` }));
  const turn = made("li", { className: "turn user" }, made("h2", {}, "You"), ...images);
  turn.append(made("p", { className: "said" }, text));
  at("chat").append(turn);
  at("examples").hidden = true;
}

async function answer() {
  const chat = messages;
  const mine = (running = new AbortController());
  busy(true);
  fail(null);
  if (model === null) await learnModel().catch(() => {}); // The question's own answer tells what is wrong.
  if (chat !== messages) return; // A new chat has begun.
  const request = { model, messages: [...chat], stream: true, stream_options: { include_timing: true }, logprobs: true };
  const said = made("p", { className: "said" });
  const turn = made("li", { className: "turn assistant" }, made("h2", {}, model ?? "Model"), said);
  at("chat").append(turn);
  const found = { tokens: [], usage: null, text: "" };
  const began = performance.now();
  let failed = false;
  try {
    for await (const chunk of stream(request, mine.signal)) {
      if (chunk.usage) found.usage = chunk.usage;
      const [choice] = chunk.choices;
      if (!choice) continue;
      found.text += choice.delta.content ?? "";
      found.tokens.push(...(choice.logprobs?.content ?? []));
      said.textContent = found.text;
      turn.scrollIntoView({ block: "nearest" });
    }
  } catch (error) {
    failed = error.name !== "AbortError";
    if (failed && chat === messages) fail(error);
    if (error.status === 401) at("key-field").hidden = false;
  }
  found.total = (performance.now() - began) / 1000;
  if (chat !== messages) return; // A new chat has begun.
  running = null;
  busy(false);
  if (found.text) chat.push({ role: "assistant", content: found.text });
  else if (!failed) said.textContent = "(no answer)";
  turn.append(actions(turn, request, found));
}

function actions(turn, request, found) {
  const row = made("div", { className: "row" });
  row.append(
    button("What the model saw", (event) => toggle(turn, event.target, () => saw(request, found))),
    button("As code", (event) => toggle(turn, event.target, () => codePanel(request))),
    button("Ask again", () => again(turn, request)),
  );
  return row;
}

async function saw(request, found) {
  const { stream: _, stream_options: __, ...body } = request;
  const fits = ["pad", "crop", "squash"];
  const rendered = await (await call("v1/chat/completions/render", { ...body, render_fits: fits })).json();
  const shown = [...document.querySelectorAll(".turn.user img")];
  shown.forEach((image, place) => image.classList.toggle("left-out", place < rendered.dropped.images));
  return sawPanel(rendered, found);
}

async function toggle(turn, control, make) {
  if (control.panel?.isConnected) {
    control.panel.remove();
    control.ariaExpanded = "false";
    return;
  }
  try {
    control.panel = await make();
    control.ariaExpanded = "true";
    turn.append(control.panel);
  } catch (error) {
    fail(error);
  }
}

/** Ask the same again: what came after it is forgotten. */
function again(turn, request) {
  if (running) return;
  while (turn.nextSibling) turn.nextSibling.remove();
  turn.remove();
  messages = [...request.messages];
  answer();
}

function busy(is) {
  at("stop").hidden = !is;
  at("send").disabled = is;
}

function clear() {
  running?.abort();
  running = null;
  [messages, pictures] = [[], []];
  at("chat").replaceChildren();
  at("examples").hidden = false;
  busy(false);
  fail(null);
  showPictures();
  at("text").focus();
}

for (const { text, pictures: urls } of EXAMPLES) {
  const use = button("", () => {
    pictures = [...urls];
    at("text").value = text;
    showPictures();
    send();
  });
  use.append(...urls.map((url) => made("img", { src: url, alt: "" })), text);
  at("examples").append(use);
}

at("ask").onsubmit = (event) => {
  event.preventDefault();
  send();
};
at("text").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
};
for (const id of ["choose", "photograph"])
  at(id).onchange = async (event) => {
    await add([...event.target.files]);
    event.target.value = "";
  };
document.onpaste = (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    add([...event.clipboardData.files]);
  }
};
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
};
document.ondragleave = () => document.body.classList.remove("dragging");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  add([...event.dataTransfer.files]);
};
at("stop").onclick = () => running?.abort();
at("new").onclick = clear;
at("key").value = key.get();
at("key").onchange = () => {
  key.set(at("key").value.trim());
  name();
};
watch();
