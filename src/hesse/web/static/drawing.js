// What the pages with figures share: elements, numbers as text, colours, and asking the server.

// Brewer's RdBu and Blues, as in hesse.plot: people with any common colour blindness tell them apart.
const DIVERGING = ["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"].map(rgb);
const BLUES = ["#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b"].map(rgb);
// Okabe and Ito (2008).
export const VERMILION = "#d55e00", GREEN = "#009e73", ORANGE = "#e69f00", PURPLE = "#cc79a7";
const DECADES = 4; // the most that colours reach below the largest entry

function rgb(text) {
  return [1, 3, 5].map((k) => parseInt(text.slice(k, k + 2), 16));
}

function between(colours, t) {
  const place = Math.min(1, Math.max(0, t)) * (colours.length - 1);
  const low = Math.min(Math.floor(place), colours.length - 2);
  return colours[low].map((c, k) => Math.round(c + (place - low) * (colours[low + 1][k] - c)));
}

export const css = (colour) => "rgb(" + colour.join(",") + ")";

/** The colour of a cost, from 0, the lowest, to 1. */
export const sequential = (t) => between(BLUES, t);

/** Colours for signed entries: logarithmic beyond a threshold, linear within. */
export class Signed {
  constructor(entries) {
    const sizes = entries.filter((x) => x !== null && x !== 0).map(Math.abs).sort((a, b) => a - b);
    this.largest = sizes.length ? sizes[sizes.length - 1] : 1;
    const small = sizes.length ? sizes[Math.floor(sizes.length / 20)] : 1;
    const decades = Math.min(DECADES, Math.max(1, Math.log10(this.largest / small)));
    this.threshold = this.largest / 10 ** decades;
  }

  place(x) {
    const size = Math.log1p(Math.abs(x) / this.threshold) / Math.log1p(this.largest / this.threshold);
    return Math.sign(x) * size;
  }

  colour(x) {
    return x === null ? [150, 150, 150] : between(DIVERGING, (this.place(x) + 1) / 2);
  }

  /** A bar of the colours with its ends, for the eye. */
  scale(where, beside = "") {
    const bar = element("span", undefined, { className: "bar" });
    for (let k = 0; k <= 40; k++) {
      const part = element("span");
      part.style.background = css(between(DIVERGING, k / 40));
      bar.append(part);
    }
    where.replaceChildren(element("span", number(-this.largest)), bar, element("span", number(this.largest)), element("span", beside));
  }
}

/** Black or white, whichever is read more easily on a colour. */
export function ink(colour) {
  const [r, g, b] = colour.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

export function element(tag, text, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Formulas are MathML that hesse has written, with all names in them escaped. */
export function math(tag, formula) {
  const made = element(tag);
  made.innerHTML = formula;
  return made;
}

/** A number in so many digits, with a minus sign. */
export function number(x, digits = 4) {
  if (x === null || x === undefined) return "not finite";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e5 || size < 1e-3 ? size.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e") : String(Number(size.toPrecision(digits)));
  return (x < 0 ? "−" : "") + text.replace("e-", "e−");
}

/** What the server answers; an Error with its text where it refuses. */
export async function ask(path, said, signal) {
  const long = said !== undefined;
  const reply = await fetch(path, long ? { method: "POST", body: JSON.stringify(said), headers: { "Content-Type": "application/json" }, signal } : { signal });
  const kind = reply.headers.get("content-type") || "";
  if (!kind.startsWith("application/json")) throw new Error(await reply.text());
  const found = await reply.json();
  if (found.error) throw new Error(found.error);
  return found;
}

/** The arrays of a file that was chosen as text, beside those that were there. */
export async function arraysOf(input, arrays) {
  const [file] = input.files;
  if (!file) return arrays;
  const text = await new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
  input.value = "";
  return (await ask("/numbers/filed", { arrays, file: text.slice(text.indexOf(",") + 1) })).arrays;
}

export function showError(where, error) {
  where.replaceChildren();
  if (!error) return;
  const text = element("pre", error.message, { className: "error" });
  text.setAttribute("role", "alert");
  where.append(text);
}

/** A table of rows of texts or elements, each beginning with its name; some columns hold words. */
export function table(titles, rows, words = []) {
  const made = element("table", undefined, { className: "figures" });
  const head = made.createTHead().insertRow();
  titles.forEach((title, k) => head.append(element("th", title, { scope: "col", className: words.includes(k) ? "words" : "" })));
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((part, k) => {
      const cell = k ? line.insertCell() : line.appendChild(element("th", undefined, { scope: "row" }));
      if (words.includes(k)) cell.className = "words";
      cell.append(part);
    });
  }
  return made;
}

/** A canvas ready to be drawn on in its own size on the screen; null where it is not seen. */
export function paper(canvas) {
  const box = canvas.getBoundingClientRect();
  if (!box.width || !box.height) return null;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(box.width * ratio);
  canvas.height = Math.round(box.height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return { pen, width: box.width, height: box.height };
}

export const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Draws again where the window or the theme changes. */
export function redrawn(draw) {
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

/** Eigenvalues in ascending order, on an axis that is logarithmic on both sides of zero. */
export function drawSpectrum(canvas, values, tolerance) {
  const at = paper(canvas);
  if (!at) return;
  const { pen, width, height } = at, axis = new Signed(values);
  const [left, right, top, bottom] = [64, width - 8, 10, height - 22];
  const y = (value) => (top + bottom) / 2 - (axis.place(value) * (bottom - top)) / 2;
  const x = (k) => left + ((k + 0.5) / values.length) * (right - left);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const value of [-axis.largest, 0, axis.largest]) {
    pen.strokeStyle = themed(value ? "--edge" : "--soft");
    pen.beginPath();
    pen.moveTo(left, y(value));
    pen.lineTo(right, y(value));
    pen.stroke();
    pen.fillStyle = themed("--soft");
    pen.fillText(number(value, 3), left - 6, y(value));
  }
  pen.textAlign = "center";
  pen.fillText("eigenvalues in ascending order", (left + right) / 2, height - 8);
  const size = Math.max(1.5, Math.min(4, (right - left) / values.length / 2));
  values.forEach((value, k) => {
    pen.fillStyle = Math.abs(value) <= tolerance ? themed("--soft") : value < 0 ? "#4393c3" : "#d6604d";
    pen.beginPath();
    pen.arc(x(k), y(value), size, 0, 2 * Math.PI);
    pen.fill();
  });
}
