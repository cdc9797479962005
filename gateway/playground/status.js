// The status line, which stays true: also after the start, when the server may go away or restart its engine.
import { call } from "./api.js";
import { at, made } from "./elements.js";

const POLL = { starting: 1000, ready: 5000 }; // milliseconds
const DEMO = "llava-demo";
export const server = { models: [], ready: null, defaults: {} };
let watching = null;
let refused = false; // whether the error shown is about the model list, which a key may cure
let show = { fail() {}, learned() {} };

export const model = () => server.models.find(({ id }) => id === at("model").value) ?? server.models[0] ?? null;
export const isDemo = () => model()?.root === DEMO;

/** The limits of one encoded image and of a request, in bytes. */
export function limits() {
  const able = model()?.gateway;
  return { image: able?.max_image_bytes ?? Infinity, body: able?.max_body_bytes ?? Infinity };
}

export function start(callbacks) {
  show = callbacks;
  addEventListener("focus", watch); // Who comes back to the page sees how things are now.
  addEventListener("online", watch);
  watch();
}

/** Ask the server how it is, now and then. */
export async function watch() {
  let pause = POLL.starting;
  try {
    const health = await fetch("health/ready");
    const state = await health.json();
    showProgress(state.progress);
    if (health.ok) {
      if (server.ready !== true) await name();
      pause = POLL.ready;
    } else {
      const spent = state.seconds === undefined ? "" : ` (${Math.round(state.seconds)} s)`;
      say([state.status, state.stage].filter(Boolean).join(": ") + spent, "starting");
    }
    server.ready = health.ok;
  } catch {
    server.ready = false;
    say("the server cannot be reached", "away");
  }
  clearTimeout(watching);
  watching = setTimeout(watch, pause);
}

/** Show a status; a text that has not changed is not announced again. */
function say(text, state) {
  if (at("status").textContent !== text) at("status").textContent = text;
  at("status").className = state;
}

/** Show how many bytes of the weights are fetched or loaded, while the start does that. */
function showProgress(progress) {
  at("progress").hidden = !progress;
  if (!progress) return;
  at("progress").max = progress.total_bytes;
  at("progress").value = progress.done_bytes;
}

export async function learnModels() {
  const before = at("model").value;
  server.models = (await (await call("v1/models")).json()).data;
  at("model").replaceChildren(...server.models.map(({ id }) => made("option", { value: id }, id)));
  if (server.models.some(({ id }) => id === before)) at("model").value = before;
  at("model-field").hidden = server.models.length < 2;
  const messages = [{ role: "user", content: "Hi" }];
  const asked = await call("v1/chat/completions/render", { messages }).catch(() => null);
  server.defaults = asked ? (await asked.json()).sampling : {};
  show.learned();
}

/** Learn the models' names, and say that they are ready. */
export async function name() {
  try {
    await learnModels();
    say(`${model().id}: ready`, "ready");
    if (refused) show.fail(null);
    refused = false;
  } catch (error) {
    refused = true;
    say("ready", "ready");
    show.fail(error);
  }
}

/** How many requests the server says wait for the engine; null where it does not tell. */
export async function queued() {
  const answer = await fetch("metrics").catch(() => null);
  if (!answer?.ok) return null;
  const found = /^gateway_waiting(?:\{[^}]*\})? ([\d.e+]+)$/m.exec(await answer.text());
  return found && Number(found[1]);
}
