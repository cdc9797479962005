// "What the model saw": draws the answer of the render endpoint.
import { made } from "./elements.js";

export const FITS = ["pad", "crop", "squash"];

/** Return the panel of one answer. `answered(fit)` returns what is shown below a resize mode. */
export function panel(rendered, defaults, answer, answered) {
  return made(
    "section",
    { className: "panel", ariaLabel: "What the model saw" },
    ...pictures(rendered, answered),
    ...timing(answer),
    ...prompt(rendered),
    ...sampling(rendered, defaults, answer.settings),
  );
}

function pictures({ images, image_fit, dropped }, answered) {
  const left = [`${images.length} in the prompt`];
  for (const [what, count] of Object.entries(dropped)) if (count) left.push(`${count} ${what} left out`);
  const parts = [made("h3", {}, "Pictures, as the model gets them"), made("p", { className: "soft" }, left.join(", "))];
  if (!images.length) return parts;
  const rows = made("div");
  images.forEach(({ fits }, place) => {
    const row = made("div", { className: "fits" });
    for (const fit of FITS) {
      const used = fit === image_fit ? " (used)" : "";
      const image = made("img", { src: fits[fit], alt: `Picture ${place + 1}, ${fit}` });
      const pixels = made("div", { className: "pixels" }, image);
      const caption = made("figcaption", {}, made("strong", {}, `${fit}${used}`));
      if (place === images.length - 1) caption.append(answered(fit));
      row.append(made("figure", {}, pixels, caption));
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
  return [made("h3", {}, "The prompt, with its tokens"), made("p", { className: "soft" }, used), meter, text];
}

/** Return only what differs from the server's defaults. By default the answer may fill the rest of the context. */
function sampling({ sampling: found }, defaults, asked) {
  const differ = Object.entries(found).filter(
    ([name, value]) => !name.includes("logprobs") && (name !== "max_tokens" || asked.max_tokens) && JSON.stringify(value) !== JSON.stringify(defaults[name]),
  );
  const rows = differ.map(([name, value]) =>
    made("tr", {}, made("th", { scope: "row" }, name), made("td", {}, JSON.stringify(value))),
  );
  const shown = rows.length ? made("table", {}, made("tbody", {}, ...rows)) : made("p", { className: "soft" }, "As the server does by itself.");
  return [made("h3", {}, "Sampling"), shown];
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
    made("h3", {}, "Where the time went"),
    bar,
    made("table", { className: "steps" }, made("tbody", {}, ...rows)),
    made("p", { className: "soft" }, said.join("; ")),
  ];
}
