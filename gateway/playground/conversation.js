// The conversation: its turns, and the answer being written.
import { call, stream } from "./api.js";
import { panel as codePanel } from "./code.js";
import * as composer from "./composer.js";
import { at, made, megabytes } from "./elements.js";
import { isPhotograph } from "./photo.js";
import { FITS, panel as sawPanel } from "./saw.js";
import * as settings from "./settings.js";
import { isDemo, learnModels, limits, model, queued, server, watch } from "./status.js";
import * as store from "./store.js";
import * as turns from "./turns.js";

const HINT = "This is a photograph, and the demo model knows only coloured shapes, so its answer is a guess. For photographs, start the 7B: make serve PROFILE=llava-1.5-7b";
const OPEN = "gateway-chat";
export let chat = fresh();
let running = null;
let editing = null; // index of the question being edited
let fail = () => {};

function fresh() {
  return { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, title: "", turns: [] };
}

/** After a reload, show the chat that was open, once `ready` has settled whether chats are kept. */
export async function start(show, ready) {
  fail = show;
  await ready;
  const id = sessionStorage.getItem(OPEN);
  const found = id && (await store.load(id));
  if (found && !chat.turns.length) open(found);
}

export const isRunning = () => running !== null;
export const stop = () => running?.abort();

/** Show a stored chat, or a new one. */
export function open(kept = fresh()) {
  running?.abort();
  running = null;
  chat = kept;
  sessionStorage.setItem(OPEN, chat.id);
  cancelEdit();
  busy(false);
  fail(null);
  turns.clear();
  for (const turn of chat.turns) draw(turn);
  document.body.classList.toggle("empty", !chat.turns.length);
  if (chat.turns.length) turns.toEnd();
}

/** Return the messages of the turns before `place`, and of the turn itself if it is given. */
function messagesOf(before, turn) {
  const messages = before.flatMap((each) => [userMessage(each), { role: "assistant", content: each.variants[each.chosen].text }]);
  return turn ? [...messages, userMessage(turn)] : messages;
}

function userMessage({ text, pictures }) {
  const parts = pictures.map(({ url }) => ({ type: "image_url", image_url: { url } }));
  if (text) parts.push({ type: "text", text });
  return { role: "user", content: parts };
}

/** Return the request for one answer, as an API client would send it. */
function requestOf(turn, variant) {
  return settings.body(variant.model, messagesOf(chat.turns.slice(0, chat.turns.indexOf(turn)), turn), variant.settings);
}

export function send() {
  const { text, pictures } = composer.draft();
  if (running || !(text || pictures.length)) return;
  const kept = editing === null ? chat.turns : chat.turns.slice(0, editing);
  const size = [...kept.flatMap((turn) => turn.pictures), ...pictures].reduce((sum, { url }) => sum + url.length, 0);
  if (size > limits().body) {
    const message = `The pictures of this chat have ${megabytes(size)}; the limit is ${megabytes(limits().body)}. Remove some, or start a new chat.`;
    return fail(Object.assign(new Error(message), { local: true }));
  }
  for (const turn of chat.turns.slice(kept.length)) [turn.element, turn.answer].forEach((element) => element.remove());
  chat.turns = [...kept];
  cancelEdit();
  composer.fill("", []);
  const turn = { text, pictures, variants: [], chosen: 0 };
  chat.turns.push(turn);
  chat.title ||= (text || "A picture").slice(0, 80);
  document.body.classList.remove("empty");
  draw(turn);
  turns.toEnd();
  answer(turn, settings.current());
}

function draw(turn) {
  turn.element = turns.question(turn, { edit: () => edit(turn) });
  turn.answer = made("li", { className: "turn assistant" });
  at("chat").append(turn.element, turn.answer);
  if (turn.variants.length) redraw(turn);
}

function redraw(turn, current = null) {
  turns.answers(turn.answer, turn, turn.variants[0]?.model, acts(turn), current);
}

/** Put a question back into the composer, to edit its text or pictures. */
function edit(turn) {
  if (running) return;
  editing = chat.turns.indexOf(turn);
  composer.fill(turn.text, turn.pictures);
  at("editing").hidden = false;
  for (const later of chat.turns.slice(editing)) [later.element, later.answer].forEach((item) => item.classList.add("replaced"));
  at("text").focus();
}

export function cancelEdit() {
  if (editing !== null) composer.fill("", []);
  editing = null;
  at("editing").hidden = true;
  for (const item of document.querySelectorAll(".replaced")) item.classList.remove("replaced");
}

/** Request another answer for a turn; `more` is an answer to continue instead. */
async function answer(turn, chosen, more = null) {
  const mine = (running = new AbortController());
  const here = chat;
  busy(true);
  fail(null);
  if (!server.models.length) await learnModels().catch(() => {}); // The question's own request reports the error.
  if (here !== chat) return; // Another chat was opened meanwhile.
  const before = { chosen: turn.chosen };
  const variant = more ?? { text: "", tokens: [], usage: null, settings: chosen, model: model()?.id, finish: null };
  if (!more) turn.chosen = turn.variants.push(variant) - 1;
  let failure = null;
  let request = { messages: [] };
  redraw(turn, variant);
  if (document.activeElement === document.body) at("text").focus(); // The pressed button was removed.
  turns.toEnd();
  const waiting = wait();
  const began = performance.now();
  const had = variant.text;
  try {
    request = requestOf(turn, variant);
    if (more) Object.assign(request, { messages: [...request.messages, { role: "assistant", content: had }], continue_final_message: true, add_generation_prompt: false });
    const streamed = { ...request, stream: true, stream_options: { include_timing: true }, logprobs: true, top_logprobs: 4 };
    variant.finish = null;
    for await (const chunk of stream(streamed, mine.signal)) {
      waiting.end();
      take(chunk, variant, here);
    }
  } catch (error) {
    variant.finish = error.name === "AbortError" ? "stopped" : "broken";
    if (variant.finish === "broken") failure = error;
  }
  waiting.end();
  variant.total = (performance.now() - began) / 1000;
  if (here !== chat) return;
  running = null;
  busy(false);
  if (failure && here === chat) fail(failure, request.messages);
  if (failure?.away) watch();
  if (variant.text === had && ["stopped", "broken"].includes(variant.finish)) return withdraw(turn, variant, more, before);
  const follow = turns.atEnd();
  redraw(turn);
  if (follow) turns.toEnd();
  save();
  await look(turn, variant);
  if (here === chat) save();
}

function take(chunk, variant, here) {
  if (chunk.usage) variant.usage = chunk.usage;
  const [choice] = chunk.choices;
  if (!choice || here !== chat) return;
  variant.text += choice.delta.content ?? "";
  variant.tokens.push(...(choice.logprobs?.content ?? []).map(({ token, logprob, top_logprobs }) => ({ token, logprob, top_logprobs: top_logprobs.map((other) => ({ token: other.token, logprob: other.logprob })) })));
  variant.finish = choice.finish_reason ?? variant.finish;
  const follow = turns.atEnd();
  turns.write(variant, true);
  if (follow) turns.toEnd();
}

/** Remove an answer that has not begun, and its question if it has no other answer. */
function withdraw(turn, variant, more, before) {
  if (more) return redraw(turn);
  turn.variants = turn.variants.filter((other) => other !== variant);
  turn.chosen = before.chosen;
  if (turn.variants.length) return redraw(turn);
  chat.turns = chat.turns.filter((other) => other !== turn);
  const later = composer.draft();
  composer.fill([turn.text, later.text].filter(Boolean).join("\n"), [...turn.pictures, ...later.pictures]);
  turn.element.remove();
  turn.answer.remove();
  document.body.classList.toggle("empty", !chat.turns.length);
  at("text").focus();
}

/** Fetch how the model saw an answer's pictures, for the strip below it, and check whether the demo model knows their kind. */
async function look(turn, variant) {
  if (!turn.pictures.length) return;
  try {
    turn.rendered = await rendered(turn, variant);
    const photographs = await Promise.all(turn.pictures.map(({ preview, url }) => isPhotograph(preview ?? url)));
    turn.hint = isDemo() && photographs.some(Boolean) ? HINT : null;
  } catch {
    return; // No strip; the button shows the error.
  }
  if (running || !turn.answer.isConnected) return;
  const follow = turns.atEnd();
  turns.strip(turn.answer, turn, acts(turn));
  if (follow) turns.toEnd();
}

async function rendered(turn, variant) {
  const answer = await call("v1/chat/completions/render", { ...requestOf(turn, variant), render_fits: FITS });
  return answer.json();
}

/** Show how long the answer has been waited for, and the length of the server's queue if it reports one. */
function wait() {
  const began = performance.now();
  let others = null;
  const update = async () => {
    const seconds = Math.round((performance.now() - began) / 1000);
    if (seconds < 1) return;
    const queue = others ? ` ${others} ${others === 1 ? "request waits" : "requests wait"} in the queue.` : "";
    at("waiting").hidden = false;
    at("waiting").textContent = `Waiting for the first word: ${seconds} s.${queue}`;
    if (seconds % 2 === 0) others = await queued();
  };
  const timer = setInterval(update, 1000);
  return {
    end() {
      clearInterval(timer);
      at("waiting").hidden = true;
    },
  };
}

/** Return the actions on the answers of a turn. */
function acts(turn) {
  const ask = (more) => running || answer(turn, { ...settings.current(), ...more });
  const fit = (value) => {
    const place = turn.variants.findIndex((each) => turns.fitOf(each) === value);
    if (place >= 0) choose(place);
    else ask({ image_fit: value });
  };
  const choose = (place) => {
    if (running) return;
    turn.chosen = place;
    redraw(turn);
    (turn.answer.querySelector('.tile[aria-pressed="true"]') ?? at("text")).focus();
    save();
  };
  return {
    again: () => ask({}),
    choose,
    fit,
    goOn: (place) => running || answer(turn, null, turn.variants[place]),
    code: (variant) => codePanel(requestOf(turn, variant)),
    saw: async (variant) => {
      const found = await rendered(turn, variant);
      markLeftOut(found);
      return sawPanel(found, server.defaults, variant, (value) => below(turn, value, fit));
    },
    toggle: (control, make) => toggle(turn.answer, control, make),
  };
}

/** Return what is shown below a resize mode in the panel: its answer, or a button that requests one. */
function below(turn, value, fit) {
  const has = turn.variants.find((each) => turns.fitOf(each) === value);
  if (has) return made("p", {}, has.text);
  return made("button", { type: "button", onclick: () => fit(value) }, `Answer with ${value}`);
}

function markLeftOut({ dropped }) {
  const shown = [...document.querySelectorAll(".turn.user img")];
  shown.forEach((image, place) => image.classList.toggle("left-out", place < dropped.images));
}

async function toggle(item, control, make) {
  const open = control.panel?.isConnected;
  control.ariaExpanded = String(!open);
  if (open) return control.panel.remove();
  try {
    control.panel = await make();
    item.append(control.panel);
  } catch (error) {
    fail(error);
  }
}

/** Send and Stop are one button, so that the focus stays on it. */
function busy(is) {
  at("log").ariaBusy = String(is); // Screen readers announce the answer once, not each token.
  document.body.classList.toggle("busy", is);
  at("send").ariaLabel = is ? "Stop" : "Send";
}

/** Store the chat without its DOM elements. */
function save() {
  const plain = chat.turns.map(({ element, answer: _, rendered: __, variants, ...turn }) => ({
    ...turn,
    variants: variants.map(({ element: ___, ...variant }) => variant),
  }));
  sessionStorage.setItem(OPEN, chat.id);
  store.keep({ ...chat, turns: plain });
}

/** Estimate the context used, with the draft, in tokens, without asking the server; null if unknown. */
export function filled({ text, pictures }) {
  const able = model()?.gateway;
  if (!able?.tokens_per_image) return null;
  const last = chat.turns.at(-1)?.variants[chat.turns.at(-1).chosen];
  const before = last?.usage ? last.usage.prompt_tokens + last.usage.completion_tokens : 0;
  const added = pictures.length * able.tokens_per_image + Math.ceil(text.length / 4);
  return { used: before + added, of: able.context_length };
}
