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
let limits = { image: Infinity, body: Infinity }; // bytes, of one encoded image and of a request
let running = null;
let ready = null;
let watching = null;
let refused = false; // whether the error shown is about the model list, which a key may cure

const POLL = { starting: 1000, ready: 5000 }; // milliseconds

/** Keep the status true: also after the start, when the server may go away or restart its engine. */
async function watch() {
  let pause = POLL.starting;
  try {
    const health = await fetch("health/ready");
    const state = await health.json();
    showProgress(state.progress);
    if (health.ok) {
      if (ready !== true) await name();
      pause = POLL.ready;
    } else {
      const spent = state.seconds === undefined ? "" : ` (${Math.round(state.seconds)} s)`;
      say([state.status, state.stage].filter(Boolean).join(": ") + spent);
    }
    ready = health.ok;
  } catch {
    ready = false;
    say("the server cannot be reached");
  }
  clearTimeout(watching);
  watching = setTimeout(watch, pause);
}

/** Show a status; a text that has not changed is not announced again. */
function say(text) {
  if (at("status").textContent !== text) at("status").textContent = text;
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
  limits = { image: data[0].gateway.max_image_bytes, body: data[0].gateway.max_body_bytes };
}

async function name() {
  try {
    await learnModel();
    say(`${model}: ready`);
    if (refused) fail(null);
    refused = false;
  } catch (error) {
    refused = true;
    if (error.status === 401) at("key-field").hidden = false;
    say("ready");
    fail(error);
  }
}

function fail(error) {
  at("error").hidden = error === null;
  at("error").textContent = error?.message ?? "";
}

async function add(files) {
  const problems = [];
  for (const file of files) {
    if (!file.type.startsWith("image/") && !PICTURE.test(file.name)) problems.push(`${file.name} is not a picture`);
    else if (file.size > limits.image)
      problems.push(`${file.name} is too large: ${megabytes(file.size)}; the limit is ${megabytes(limits.image)}`);
    else pictures.push(await dataURL(file));
  }
  showPictures();
  fail(problems.length ? new Error(problems.join("; ")) : null);
}

const PICTURE = /\.(avif|bmp|gif|heic|heif|jpe?g|png|tiff?|webp)$/i; // Some systems name no type for some of these.

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MB`;
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
  const size = [...pictures, ...messages.flatMap(urls)].reduce((sum, url) => sum + url.length, 0);
  if (size > limits.body) {
    fail(new Error(`the pictures of this chat have ${megabytes(size)}; the limit is ${megabytes(limits.body)}`));
    return;
  }
  const parts = pictures.map((url) => ({ type: "image_url", image_url: { url } }));
  if (text) parts.push({ type: "text", text });
  messages.push({ role: "user", content: parts });
  showUser(pictures, text);
  pictures = [];
  at("text").value = "";
  showPictures();
  answer();
}

/** Return the pictures of a message, as URLs. */
function urls({ content }) {
  return Array.isArray(content) ? content.filter(({ type }) => type === "image_url").map((part) => part.image_url.url) : [];
}

function showUser(shown, text) {
  const images = shown.map((url, place) => made("img", { src: url, alt: `Your picture ${place + 1}` }));
  const turn = made("li", { className: "turn user" }, made("h2", {}, "You"), ...images);
  turn.append(made("p", { className: "said" }, text));
  at("chat").append(turn);
  at("examples").hidden = true;
  scrollTo(0, document.body.scrollHeight);
}

/** Take the last question out of the chat, and put its text and pictures back into the composer. */
function takeBack(turn) {
  const { content } = messages.pop();
  const text = content.find(({ type }) => type === "text")?.text ?? "";
  pictures = [...urls({ content }), ...pictures];
  at("text").value = [text, at("text").value].filter(Boolean).join("\n");
  turn.previousSibling.remove();
  turn.remove();
  at("examples").hidden = messages.length > 0;
  showPictures();
  at("text").focus();
}

/** Whether the end of the page is in view, so that what is added should be followed. */
function atEnd() {
  return innerHeight + scrollY >= document.body.scrollHeight - 8;
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
  at("log").ariaBusy = "true"; // The answer is announced once, not piece by piece.
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
      const follow = atEnd();
      said.textContent = found.text;
      if (follow) scrollTo(0, document.body.scrollHeight);
    }
  } catch (error) {
    failed = error.name !== "AbortError";
    if (failed && chat === messages) fail(error);
    if (error.status === 401) at("key-field").hidden = false;
    if (error.away) watch();
  }
  found.total = (performance.now() - began) / 1000;
  if (chat !== messages) return; // A new chat has begun.
  running = null;
  busy(false);
  at("log").ariaBusy = "false";
  if (!found.text && (failed || mine.signal.aborted)) return takeBack(turn);
  if (found.text) chat.push({ role: "assistant", content: found.text });
  else said.textContent = "(no answer)";
  const follow = atEnd();
  turn.append(actions(turn, request, found));
  if (follow) scrollTo(0, document.body.scrollHeight);
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
  at("text").focus();
  answer();
}

/** Send and Stop are one button, so that neither takes the focus away with it. */
function busy(is) {
  at("send").textContent = is ? "Stop" : "Send";
}

function clear() {
  running?.abort();
  running = null;
  [messages, pictures] = [[], []];
  at("chat").replaceChildren();
  at("examples").hidden = false;
  busy(false);
  at("log").ariaBusy = "false";
  fail(null);
  showPictures();
  at("text").focus();
}

for (const { text, pictures: drawn } of EXAMPLES) {
  const use = button("", () => {
    pictures = [...drawn];
    at("text").value = text;
    showPictures();
    at("text").focus();
    send();
  });
  use.append(...drawn.map((url) => made("img", { src: url, alt: "" })), text);
  at("examples").append(use);
}

at("ask").onsubmit = (event) => {
  event.preventDefault();
  if (running) running.abort();
  else send();
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
at("new").onclick = clear;
at("key").value = key.get();
at("key").onchange = () => {
  key.set(at("key").value.trim());
  fail(null);
  name();
};
watch();
