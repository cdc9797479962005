// Renders an answer's Markdown. The model's output is not trusted: HTML stays text, and images are not loaded.
import { Marked } from "./vendor/marked.js";

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: { html: ({ text }) => escaped(text), image: ({ text }) => escaped(text) },
});
const RULES = {
  ALLOWED_TAGS: "a b blockquote br code del em h1 h2 h3 h4 hr i li ol p pre strong table tbody td th thead tr ul".split(" "),
  ALLOWED_ATTR: ["href", "start"],
  RETURN_DOM_FRAGMENT: true,
};

export function markdown(text) {
  const fragment = window.DOMPurify.sanitize(marked.parse(text), RULES);
  for (const link of fragment.querySelectorAll("a")) Object.assign(link, { target: "_blank", rel: "noopener noreferrer" });
  return fragment;
}

/** Return whether the text contains Markdown. */
export function hasForm(text) {
  return /(^|\n)\s*([-*+]|\d+\.|#+|>|```|\|)\s?\S|\*\*|`|\]\(/.test(text);
}
