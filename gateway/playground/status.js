// The status line. It is updated after the start, too: the server may stop, or restart its engine.
import { call } from "./api.js";
import { at, made } from "./elements.js";

const POLL = { starting: 1000, ready: 5000 }; // milliseconds
const DEMO = "llava-demo";
export const server = { models: [], ready: null, defaults: {} };
let watching = null;
let refused = false; // whether the shown error is that of the model list, which a key may solve
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
  addEventListener("focus", watch); // A user who comes back to the page sees the current state.
  addEventListener("online", watch);
  watch();
}

/** Poll the server's health. */
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

/** Show a status. Unchanged text is not set again, so that screen readers do not repeat it. */
function say(text, state) {
  if (at("status").textContent !== text) at("status").textContent = text;
  at("status").className = state;
}

/** Show how many bytes of the weights are downloaded or loaded, during the start. */
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

/** Fetch the models' names and show that they are ready. */
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

/** Return how many requests wait in the server's queue; null if it does not report that. */
export async function queued() {
  const answer = await fetch("metrics").catch(() => null);
  if (!answer?.ok) return null;
  const found = /^gateway_waiting(?:\{[^}]*\})? ([\d.e+]+)$/m.exec(await answer.text());
  return found && Number(found[1]);
}
