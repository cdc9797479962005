// "What the model saw": the render endpoint's answer, drawn.
import { made } from "./elements.js";

const FITS = ["pad", "crop", "squash"];

/** Return the panel of one answer. `answer` has `tokens`, `usage`, and `first` and `total` in seconds. */
export function panel(rendered, answer) {
  return made(
    "section",
    { className: "panel", ariaLabel: "What the model saw" },
    ...pictures(rendered),
    ...prompt(rendered),
    ...sampling(rendered),
    ...timing(answer),
    ...probabilities(answer),
  );
}

function pictures({ images, image_fit, dropped }) {
  const left = [`${images.length} in the prompt`];
  for (const [what, count] of Object.entries(dropped)) if (count) left.push(`${count} ${what} left out`);
  const parts = [made("h3", {}, "Pictures"), made("p", {}, left.join(", "))];
  if (!images.length) return parts;
  const rows = made("div");
  images.forEach(({ fits }, place) => {
    const row = made("div", { className: "fits" });
    for (const fit of FITS) {
      const used = fit === image_fit ? " (used)" : "";
      const image = made("img", { src: fits[fit], alt: `Picture ${place + 1}, ${fit}` });
      const pixels = made("div", { className: "pixels" }, image);
      row.append(made("figure", {}, pixels, made("figcaption", {}, `${fit}${used}`)));
    }
    rows.append(row);
  });
  const box = made("input", { type: "checkbox" });
  box.onchange = () => rows.classList.toggle("grid", box.checked);
  return [...parts, made("label", {}, box, " 24 × 24 patches"), rows];
}

function prompt({ segments, token_strs, prompt_tokens, context_length }) {
  const text = made("div", { className: "prompt" });
  for (const { type, text: said, offset, length } of segments) {
    if (type === "text") {
      const run = made("span", { title: `${length} tokens` });
      for (const token of token_strs.slice(offset, offset + length))
        run.append(made("span", { className: "token" }, token.replaceAll("▁", " ").replaceAll("<0x0A>", "\n")));
      text.append(run);
    } else {
      const count = type === "image" ? ` × ${length}` : "";
      text.append(made("span", { className: type }, `${said}${count}`));
    }
  }
  const used = `${prompt_tokens} of ${context_length} tokens`;
  const meter = made("meter", { max: context_length, value: prompt_tokens, ariaLabel: "Context used" });
  return [made("h3", {}, "Prompt"), made("p", {}, used), meter, text];
}

function sampling({ sampling: found }) {
  const rows = Object.entries(found).map(([name, value]) =>
    made("tr", {}, made("th", { scope: "row" }, name), made("td", {}, JSON.stringify(value))),
  );
  return [made("h3", {}, "Sampling"), made("table", {}, made("tbody", {}, ...rows))];
}

function timing({ first, total, usage }) {
  if (first === undefined) return [];
  const bar = made("div", { className: "bar", role: "img", ariaLabel: "Time to the first token and after it" });
  for (const [name, share] of [["first", first], ["rest", total - first]]) {
    const part = made("span", { className: name });
    part.style.width = `${(100 * share) / total}%`;
    bar.append(part);
  }
  const said = [`first token after ${first.toFixed(2)} s`, `all after ${total.toFixed(2)} s`];
  const after = usage ? usage.completion_tokens - 1 : 0;
  if (after > 0 && total > first) said.push(`${(after / (total - first)).toFixed(1)} tokens/s`);
  const cached = usage?.prompt_tokens_details?.cached_tokens;
  if (cached) said.push(`${cached} prompt tokens from the cache`);
  return [made("h3", {}, "Time, as this page saw it"), bar, made("p", {}, said.join("; "))];
}

function probabilities({ tokens }) {
  if (!tokens.length) return [];
  const text = made("div", { className: "prompt" });
  for (const { token, logprob } of tokens)
    text.append(made("span", { className: "token", title: percent(logprob) }, token));
  return [made("h3", {}, "Answer, token by token (hover for the probability)"), text];
}

export function percent(logprob) {
  return `${(100 * Math.exp(logprob)).toFixed(1)} %`;
}
