// The answer token by token: the model's confidence in each, and its alternatives.
import { made } from "./elements.js";

export function percent(logprob) {
  return `${(100 * Math.exp(logprob)).toFixed(1)} %`;
}

/** Return the CSS class that colours a token; none from 90 %. */
export function colour(logprob) {
  const sure = Math.exp(logprob);
  return sure >= 0.9 ? "" : sure >= 0.6 ? "unsure1" : sure >= 0.3 ? "unsure2" : "unsure3";
}

/** Return the answer as tokens; the pointer or the arrow keys show a token's alternatives. */
export function tokenView(tokens) {
  const popup = made("div", { className: "alternatives", ariaLive: "polite", hidden: true });
  const label = "Answer, token by token: use the arrow keys";
  const text = made("div", { className: "tokens", tabIndex: 0, role: "group", ariaLabel: label });
  const spans = tokens.map(({ token, logprob }, index) =>
    made("span", { className: `token ${colour(logprob)}`, title: percent(logprob) }, index ? token : token.trimStart()),
  );
  let place = -1;
  const hide = () => {
    spans[place]?.classList.remove("chosen");
    popup.hidden = true;
  };
  const show = (next) => {
    hide();
    place = Math.max(0, Math.min(next, spans.length - 1));
    spans[place].classList.add("chosen");
    popup.replaceChildren(...alternatives(tokens[place]));
    popup.hidden = false;
    popup.style.top = `${spans[place].offsetTop + spans[place].offsetHeight + 4}px`;
    popup.style.left = `${Math.max(0, Math.min(spans[place].offsetLeft, text.clientWidth - popup.offsetWidth))}px`;
  };
  spans.forEach((span, index) => (span.onpointerenter = () => show(index)));
  text.onpointerleave = hide;
  text.onblur = hide;
  text.onkeydown = (event) => {
    if (event.key === "Escape") return hide();
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(place + step);
  };
  text.append(...spans);
  return made("div", { className: "with-tokens" }, text, popup);
}

function alternatives({ token, logprob, top_logprobs: others = [] }) {
  const rows = [{ token, logprob }, ...others.filter((other) => other.token !== token)];
  return rows.map((row, index) => {
    const bar = made("span", { className: "sure" });
    bar.style.width = `${100 * Math.exp(row.logprob)}%`;
    const said = `${JSON.stringify(row.token)}: ${percent(row.logprob)}`;
    return made("p", { className: index ? "" : "said-one" }, bar, made("span", {}, said));
  });
}
