// Draws one question and its answers.
import { at, button, copy, enlarge, iconButton, made } from "./elements.js";
import { hasForm, markdown } from "./markdown.js";
import { FITS } from "./saw.js";
import { describe } from "./settings.js";
import { server } from "./status.js";
import { tokenView } from "./tokens.js";

const ENDS = {
  stopped: "You stopped this answer.",
  broken: "Cut off: the connection broke. What came until then is kept.",
  length: "Cut off: the answer reached its longest length (max_tokens) or the end of the context.",
};

/** Draw the question. */
export function question(turn, act) {
  const images = turn.pictures.map(({ preview, url }, place) => {
    const image = made("img", { src: preview ?? url, alt: `Your picture ${place + 1}` });
    return made("button", { type: "button", className: "thumb", title: "Enlarge", onclick: () => enlarge(image.src) }, image);
  });
  const edit = made("div", { className: "actions" }, iconButton("Edit question", "edit", act.edit));
  const item = made("li", { className: "turn user" }, made("h2", { className: "offscreen" }, "You"), made("div", { className: "thumbs" }, ...images));
  item.append(made("div", { className: "question" }, edit, turn.text && made("p", { className: "said" }, turn.text)));
  return item;
}

/** Draw the answers of a turn, side by side, into its element. `running` is the one being written. */
export function answers(item, turn, model, act, running = null) {
  const several = turn.variants.length > 1;
  const shown = turn.variants.map((variant, place) => {
    const said = made("div", { className: "said" });
    const box = made("article", { className: "variant" });
    if (several) box.append(made("p", { className: "settings" }, describe(variant.settings)));
    box.classList.toggle("chosen", several && place === turn.chosen);
    box.append(said);
    variant.element = said;
    write(variant, variant === running);
    if (variant !== running) box.append(...below(turn, variant, place, several, act));
    return box;
  });
  const parts = [made("h2", { className: "who" }, model ?? "Model"), made("div", { className: "variants" }, ...shown)];
  item.replaceChildren(...parts);
  if (!running) strip(item, turn, act);
}

/** Draw what is below all answers of a turn: the hint, and the picture in each resize mode, unless drawn already. */
export function strip(item, turn, act) {
  const parts = [];
  if (turn.hint) parts.push(made("p", { className: "note" }, turn.hint));
  if (turn.rendered) parts.push(saw(turn, act));
  const focused = [...item.querySelectorAll(".tile")].indexOf(document.activeElement);
  for (const old of item.querySelectorAll(":scope > .note, :scope > .saw")) old.remove();
  item.querySelector(".variants").after(...parts);
  item.querySelectorAll(".tile")[focused]?.focus();
}

/** Update the text of the answer. */
export function write(variant, running) {
  const { element, text, tokens } = variant;
  const coloured = variant.coloured ?? !hasForm(text);
  if (!running && coloured && tokens.length) element.replaceChildren(tokenView(said(tokens, text)));
  else element.replaceChildren(text || running ? markdown(text) : "(no answer)");
  element.classList.toggle("writing", running);
}

/** Return the tokens of the text, without a special token at the end. */
function said(tokens, text) {
  return tokens.at(-1).token === "</s>" && !text.endsWith("</s>") ? tokens.slice(0, -1) : tokens;
}

function below(turn, variant, place, several, act) {
  const rest = [];
  if (ENDS[variant.finish]) {
    const way = variant.text && button("Continue", () => act.goOn(place), "play");
    rest.push(made("p", { className: "end" }, ENDS[variant.finish], " ", way || ""));
  }
  const row = made("div", { className: "actions" });
  const panel = (make) => (event) => act.toggle(event.currentTarget, make);
  row.append(
    button("What the model saw", panel(() => act.saw(variant)), "eye"),
    button("As code", panel(() => act.code(variant)), "code"),
    button("Ask again", () => act.again(), "again"),
  );
  const copied = button("Copy", () => copy(variant.text, copied), "copy");
  row.append(copied);
  if (variant.tokens.length) {
    const sure = button("Confidence", () => {
      variant.coloured = !(variant.coloured ?? !hasForm(variant.text));
      sure.ariaPressed = String(variant.coloured);
      write(variant, false);
    }, "spark");
    sure.ariaPressed = String(variant.coloured ?? !hasForm(variant.text));
    row.append(sure);
  }
  if (several && place !== turn.chosen) row.append(button("Go on with this one", () => act.choose(place)));
  return [...rest, row];
}

/** Return the resize mode of an answer: the requested one, or the server's default. */
export function fitOf({ settings }) {
  return settings.image_fit ?? server.models[0]?.gateway.image_fit;
}

/** Draw the picture in each resize mode. Choosing one shows its answer, which is requested if there is none yet. */
function saw(turn, act) {
  const { images } = turn.rendered;
  const fits = images.at(-1).fits;
  const now = fitOf(turn.variants[turn.chosen]);
  const tiles = FITS.map((fit) => {
    const has = turn.variants.find((variant) => fitOf(variant) === fit);
    const said = has ? has.text : `Ask with ${fit}`;
    const tile = made("button", { type: "button", className: "tile", ariaPressed: String(fit === now), onclick: () => act.fit(fit) });
    tile.append(made("img", { src: fits[fit], alt: "" }), made("span", {}, made("strong", {}, fit), made("small", {}, said)));
    return tile;
  });
  return made("div", { className: "saw", role: "group", ariaLabel: "The picture as the model saw it" }, made("p", { className: "soft" }, "As the model saw it: choose another way, and it answers again."), ...tiles);
}

/** Return whether the end of the page is in view, so that new content should be scrolled to. */
export function atEnd() {
  return innerHeight + scrollY >= document.body.scrollHeight - 8;
}

export function toEnd() {
  scrollTo(0, document.body.scrollHeight);
}

export function clear() {
  at("chat").replaceChildren();
}
