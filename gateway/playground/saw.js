// "What the model saw": the render endpoint's answer, drawn.
import { made } from "./elements.js";

const FITS = ["pad", "crop", "squash"];

/** Return the panel of one answer. `answer` has `tokens`, `usage`, and `total` in seconds. */
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
  const side = Math.sqrt(images[0].length); // One token per patch.
  rows.style.setProperty("--side", side);
  const box = made("input", { type: "checkbox" });
  box.onchange = () => rows.classList.toggle("grid", box.checked);
  return [...parts, made("label", {}, box, ` ${side} × ${side} patches`), rows];
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

function timing({ total, usage }) {
  const { total: _, ...steps } = usage?.timing ?? {};
  const sum = Object.values(steps).reduce((all, spent) => all + spent, 0);
  if (!sum) return [];
  const bar = made("div", { className: "bar", ariaHidden: "true" });
  const rows = Object.entries(steps).map(([step, spent]) => {
    const part = made("span", { className: step, title: `${step}: ${spent} ms` });
    part.style.width = `${(100 * spent) / sum}%`;
    bar.append(part);
    const label = made("th", { scope: "row" }, made("span", { className: `key ${step}` }), ` ${step}`);
    return made("tr", {}, label, made("td", {}, `${spent} ms`));
  });
  const said = [`all after ${total.toFixed(2)} s in this browser`];
  const { generate } = steps; // from the first token to the last
  if (generate && usage.completion_tokens > 1)
    said.push(`${((1000 * (usage.completion_tokens - 1)) / generate).toFixed(1)} tokens/s`);
  const cached = usage.prompt_tokens_details?.cached_tokens;
  if (cached) said.push(`${cached} prompt tokens from the cache`);
  return [
    made("h3", {}, "Time by step"),
    bar,
    made("table", {}, made("tbody", {}, ...rows)),
    made("p", {}, said.join("; ")),
  ];
}

/** Each token's probability, by pointer or with the arrow keys. */
function probabilities({ tokens }) {
  if (!tokens.length) return [];
  const told = made("p", { role: "status" });
  const label = "Answer, token by token: use the arrow keys";
  const text = made("div", { className: "prompt", tabIndex: 0, role: "group", ariaLabel: label });
  const spans = tokens.map(({ token, logprob }) =>
    made("span", { className: "token", title: percent(logprob) }, token),
  );
  let place = -1;
  const show = (next) => {
    spans[place]?.classList.remove("chosen");
    place = Math.max(0, Math.min(next, spans.length - 1));
    spans[place].classList.add("chosen");
    told.textContent = `${JSON.stringify(tokens[place].token)}: ${percent(tokens[place].logprob)}`;
  };
  spans.forEach((span, at) => {
    span.onpointerenter = () => show(at);
  });
  text.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(place + step);
  };
  text.append(...spans);
  return [made("h3", {}, "Answer, token by token"), text, told];
}

export function percent(logprob) {
  return `${(100 * Math.exp(logprob)).toFixed(1)} %`;
}
