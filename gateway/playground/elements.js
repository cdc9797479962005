/** Make an element: `made("p", {className: "x"}, "text", child)`. */
export function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function button(label, onclick) {
  return made("button", { type: "button", onclick }, label);
}
