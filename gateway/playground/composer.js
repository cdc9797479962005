// The composer: the text and the pictures of the next question.
import { call } from "./api.js";
import { at, enlarge, iconButton, made, megabytes } from "./elements.js";
import { icon } from "./icons.js";

const PICTURE = /\.(avif|bmp|gif|heic|heif|jpe?g|png|tiff?|webp)$/i; // Some systems report no type for some of these.
const DRAGGED = "application/x-gateway-picture";
let pictures = []; // each {url, preview}: the preview of a picture by address is what the gateway fetched

/** Start the composer. `limits()` has `image`, in bytes; `fail(error)` shows an error, or hides it for null. */
export function start({ limits, fail, changed }) {
  const add = (files) => addFiles(files, limits(), fail);
  for (const id of ["choose", "photograph"])
    at(id).onchange = async (event) => {
      await add([...event.target.files]);
      event.target.value = "";
    };
  document.onpaste = (event) => {
    const link = event.clipboardData.getData("text/plain").trim();
    if (event.clipboardData.files.length) add([...event.clipboardData.files]);
    else if (/^https?:\S+$/.test(link) && PICTURE.test(new URL(link).pathname)) addAddress(link, fail);
    else return;
    event.preventDefault();
  };
  document.ondragover = (event) => {
    event.preventDefault();
    if (!event.dataTransfer.types.includes(DRAGGED)) document.body.classList.add("dragging");
  };
  document.ondragleave = () => document.body.classList.remove("dragging");
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    const link = event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text/plain");
    if (event.dataTransfer.files.length) add([...event.dataTransfer.files]);
    else if (/^(https?|data:image\/)/.test(link)) addAddress(link.split("\n")[0].trim(), fail);
  };
  at("show-url").onclick = () => {
    at("by-url").hidden = !at("by-url").hidden;
    at("show-url").ariaExpanded = String(!at("by-url").hidden);
    if (!at("by-url").hidden) at("url").focus();
  };
  const byAddress = () => {
    if (!at("url").value.trim()) return;
    addAddress(at("url").value.trim(), fail);
    at("url").value = "";
    at("show-url").click();
    at("text").focus();
  };
  at("add-url").onclick = byAddress;
  at("url").onkeydown = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    byAddress();
  };
  at("text").oninput = () => changed(draft());
  start.changed = () => changed(draft());
  offerCamera();
}

/** Show "Take a photo" if there is a camera. A touch screen counts: nothing tells more without asking for permission. */
async function offerCamera() {
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  at("camera").hidden = !(matchMedia("(pointer: coarse)").matches || devices.some(({ kind }) => kind === "videoinput"));
}

export function draft() {
  return { text: at("text").value.trim(), pictures: [...pictures] };
}

export function fill(text, shown) {
  at("text").value = text;
  pictures = [...shown];
  showPictures();
}

async function addFiles(files, limits, fail) {
  const problems = [];
  for (const file of files) {
    if (!file.type.startsWith("image/") && !PICTURE.test(file.name)) problems.push(`${file.name} is not a picture`);
    else if (file.size > limits.image)
      problems.push(`${file.name} is too large: ${megabytes(file.size)}; the limit is ${megabytes(limits.image)}`);
    else {
      const url = await dataURL(file);
      pictures.push({ url, preview: url });
    }
  }
  showPictures();
  fail(problems.length ? Object.assign(new Error(problems.join("; ")), { local: true }) : null);
}

/** Add a picture by its address. The gateway fetches it, so the page sends no request to another host. */
async function addAddress(url, fail) {
  const picture = { url, preview: url.startsWith("data:") ? url : null };
  pictures.push(picture);
  showPictures();
  fail(null);
  if (picture.preview) return;
  const messages = [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }];
  try {
    const { images } = await (await call("v1/chat/completions/render", { messages, render_fits: ["pad"] })).json();
    picture.preview = images[0].fits.pad;
  } catch (error) {
    pictures = pictures.filter((other) => other !== picture);
    fail(error, messages);
  }
  showPictures();
}

/** Return a picture of this page's origin as a data URL. */
export async function inlined(url) {
  return url.startsWith("data:") ? url : dataURL(await (await fetch(url)).blob());
}

function dataURL(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function move(from, to) {
  if (to < 0 || to >= pictures.length) return;
  pictures.splice(to, 0, ...pictures.splice(from, 1));
  showPictures();
  at("pictures").children[to].querySelector("button").focus();
}

function showPictures() {
  const items = pictures.map(({ url, preview }, place) => {
    const shown = preview ? made("img", { src: preview, alt: `Picture ${place + 1}` }) : made("span", { className: "fetching" }, icon("link"), "fetching …");
    const large = made("button", { type: "button", className: "thumb", title: "Enlarge; the arrow keys move it", onclick: () => preview && enlarge(preview) }, shown);
    large.onkeydown = ({ key }) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
      if (step) move(place, place + step);
    };
    const remove = iconButton(`Remove picture ${place + 1}`, "close", () => {
      pictures.splice(place, 1);
      showPictures();
      at("text").focus();
    });
    const item = made("li", { draggable: true, title: url.startsWith("data:") ? "" : url }, large, remove);
    if (pictures.length > 1) item.append(made("span", { className: "number", ariaHidden: "true" }, `${place + 1}`));
    item.ondragstart = (event) => event.dataTransfer.setData(DRAGGED, `${place}`);
    item.ondragover = (event) => event.preventDefault();
    item.ondrop = (event) => {
      const from = event.dataTransfer.getData(DRAGGED);
      if (from === "") return;
      event.preventDefault();
      event.stopPropagation();
      move(Number(from), place);
    };
    return item;
  });
  at("pictures").replaceChildren(...items);
  start.changed?.();
}
