// The drawer with the settings of the next answer, each with its name in the API.
import { at, button, made } from "./elements.js";

const KEPT = "gateway-settings";
const FIELDS = [
  { name: "system", api: "messages[0]", label: "System prompt", make: () => made("textarea", { rows: 3 }) },
  { name: "temperature", label: "Temperature", hint: "0 is always the likeliest word", make: () => number(0, 2, 0.1) },
  { name: "top_p", label: "Top p", make: () => number(0, 1, 0.05) },
  { name: "max_tokens", label: "Longest answer, in tokens", make: () => number(1, 100000, 1) },
  { name: "seed", label: "Seed", hint: "the same seed, the same answer", make: () => number(0, 2 ** 53 - 1, 1) },
  { name: "image_fit", label: "How a picture becomes square", make: () => choice("pad", "crop", "squash") },
  { name: "image_place", label: "Where pictures stand in a message", make: () => choice("auto", "asked") },
  { name: "schema", api: "response_format", label: "JSON schema of the answer", make: () => made("textarea", { rows: 4, spellcheck: false }) },
];
const NUMBERS = new Set(["temperature", "top_p", "max_tokens", "seed"]);

let chosen = JSON.parse(localStorage.getItem(KEPT) ?? "{}");

/** Return the settings that differ from the server's, by name. */
export const current = () => ({ ...chosen });

function number(min, max, step) {
  return made("input", { type: "number", min, max, step });
}

function choice(...values) {
  return made("select", {}, made("option", { value: "" }, "default"), ...values.map((value) => made("option", { value }, value)));
}

/** Return the request for `messages` with these settings. Throws an Error if the schema is not JSON. */
export function body(model, messages, { system, schema, ...fields }) {
  const said = system ? [{ role: "system", content: system }, ...messages] : messages;
  const request = { model, messages: said, ...fields };
  if (schema) {
    let parsed;
    try {
      parsed = JSON.parse(schema);
    } catch (error) {
      throw Object.assign(new Error(`The JSON schema in the settings is no JSON: ${error.message}`), { local: true });
    }
    request.response_format = { type: "json_schema", json_schema: { name: "answer", schema: parsed } };
  }
  return request;
}

/** Describe settings: "image_fit crop, temperature 0.9". */
export function describe(settings) {
  const parts = Object.entries(settings).map(([name, value]) => (["system", "schema"].includes(name) ? name : `${name} ${value}`));
  return parts.join(", ") || "default settings";
}

/** Fill the drawer. `style` is the prompt style, which the profile sets, not a request. */
export function fillDrawer(style, close) {
  const rows = FIELDS.map(({ name, api, label, hint, make }) => {
    const control = make();
    control.value = chosen[name] ?? "";
    if ("placeholder" in control) control.placeholder = "default";
    control.onchange = () => {
      const { [name]: _, ...others } = chosen;
      const value = NUMBERS.has(name) && control.value !== "" ? Number(control.value) : control.value.trim();
      chosen = value === "" ? others : { ...others, [name]: value };
      localStorage.setItem(KEPT, JSON.stringify(chosen));
    };
    const words = [made("span", {}, label), " ", made("code", {}, api ?? name)];
    if (hint) words.push(made("small", {}, hint));
    return made("label", { className: "field" }, ...words, control);
  });
  const reset = button("Reset all", () => {
    chosen = {};
    localStorage.removeItem(KEPT);
    fillDrawer(style, close);
  });
  const prompt = made("p", { className: "field" }, "Prompt style ", made("code", {}, style ?? "…"), made("small", {}, "part of the server's profile"));
  at("settings").replaceChildren(made("div", { className: "row" }, made("h2", {}, "Settings"), made("span", { className: "space" }), close()), ...rows, prompt, reset);
}
