import { icon } from "./icons.js";

export const at = (id) => document.getElementById(id);

/** Create an element: `made("p", {className: "x"}, "text", child)`. */
export function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function button(label, onclick, drawing) {
  const made_ = made("button", { type: "button", onclick });
  if (drawing) made_.append(icon(drawing), " ");
  made_.append(label);
  return made_;
}

/** Create a button with only an icon; `label` is its accessible name and tooltip. */
export function iconButton(label, drawing, onclick) {
  return made("button", { type: "button", className: "icon", ariaLabel: label, title: label, onclick }, icon(drawing));
}

/** Copy a text; the button shows "Copied" for a moment. */
export async function copy(text, control) {
  await navigator.clipboard.writeText(text);
  const before = control.lastChild.textContent;
  control.lastChild.textContent = "Copied";
  setTimeout(() => (control.lastChild.textContent = before), 1500);
}

export function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MB`;
}

/** Show a picture at its full size. */
export function enlarge(source) {
  at("viewer").querySelector("img").src = source;
  at("viewer").showModal();
}
