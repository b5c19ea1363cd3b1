import { Signed, arraysOf, ask, css, drawSpectrum, element, ink, math, number, redrawn, showError } from "./drawing.js";
import { Plane } from "./plane.js";

const form = document.getElementById("question");
const at = (id) => document.getElementById(id);
const state = at("state");
const DENSE = 16; // rows from which on entries are colours alone
let shown = null; // the numbers that stand below
let drawn = null; // the arrays that were drawn, as text
const plane = new Plane();

const said = () => ({ network: at("network").value, arrays: at("arrays").value });

// ---------------------------------------------------------------- what is asked

async function doing(what, work) {
  state.textContent = what + " …";
  showError(at("error"));
  try {
    await work();
    state.textContent = "";
  } catch (error) {
    showError(at("error"), error);
    state.textContent = "";
  }
}

async function draw() {
  const found = await ask("/numbers/drawn", { network: at("network").value, seed: at("seed").value, samples: at("samples").value });
  at("arrays").value = drawn = found.arrays;
}

async function compute() {
  const asked = said();
  const found = await ask("/numbers/matrix", asked);
  shown = { ...found, said: asked, blocks: new Map() };
  at("result").hidden = false;
  keepLink();
  showMatrix();
  showEigenvalues();
  plane.show(shown);
}

// A link opens on the same numbers, where they are drawn or few.
function keepLink() {
  const link = new URLSearchParams({ network: shown.said.network });
  if (shown.said.arrays === drawn) {
    link.set("seed", at("seed").value);
    link.set("samples", at("samples").value);
  } else if (shown.said.arrays.length < 4000) link.set("arrays", shown.said.arrays);
  history.replaceState(null, "", "/numbers?" + link);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  doing("Computing", async () => {
    // Arrays that nobody has changed are those of another network now.
    if (at("arrays").value === drawn) await draw();
    await compute();
  });
});
at("draw").addEventListener("click", () => doing("Computing", async () => {
  if (shown && at("arrays").value === drawn && at("network").value === shown.said.network) at("seed").value = Number(at("seed").value) + 1;
  await draw();
  await compute();
}));
at("file").addEventListener("change", () => doing("Reading", async () => {
  at("arrays").value = await arraysOf(at("file"), at("arrays").value);
  await compute();
}));

// ---------------------------------------------------------------- H

function showMatrix() {
  const { matrix, names, parameters } = shown;
  const colours = new Signed(matrix.flat());
  at("summary").textContent = `${shown.network}, ${shown.samples} sample${shown.samples > 1 ? "s" : ""}: J = ${number(shown.value, 6)}, H has ${names.length} rows and is ${shown.certificate}.`;
  const begins = new Set();
  const owner = [];
  let k = 0;
  for (const parameter of parameters) {
    begins.add(k);
    for (let j = 0; j < parameter.size; j++) owner.push([parameter.name, j]);
    k += parameter.size;
  }
  shown.owner = owner;
  const made = element("table", undefined, { className: "hessian" + (names.length > DENSE ? " dense" : "") });
  made.setAttribute("role", "grid");
  made.setAttribute("aria-labelledby", "matrix-title");
  made.setAttribute("aria-describedby", "matrix-hint");
  const head = made.createTHead().insertRow();
  head.append(element("td"));
  names.forEach((name, j) => {
    const cell = element("th", undefined, { scope: "col", className: begins.has(j) ? "begins-column" : "" });
    cell.append(element("span", name));
    head.append(cell);
  });
  const body = made.createTBody();
  matrix.forEach((row, i) => {
    const line = body.insertRow();
    if (begins.has(i)) line.className = "begins-row";
    line.append(element("th", names[i], { scope: "row" }));
    row.forEach((value, j) => {
      const cell = line.insertCell();
      const colour = colours.colour(value);
      cell.setAttribute("role", "gridcell");
      cell.tabIndex = i || j ? -1 : 0;
      cell.style.background = css(colour);
      cell.style.color = ink(colour);
      if (begins.has(j)) cell.className = "begins-column";
      cell.append(element("span", number(value, 2)));
      cell.dataset.place = i + " " + j;
    });
  });
  at("matrix").replaceChildren(made);
  shown.cells = [...body.rows].map((row) => [...row.querySelectorAll("td")]);
  // First an entry between two layers: both kinds of terms are in it.
  shown.held = [0, 0];
  hold(0, Math.max(0, names.indexOf("W2[1,1]")));
}

const place = (target) => target.closest?.("td[data-place]")?.dataset.place.split(" ").map(Number);

function hold(i, j) {
  const [before, after] = [shown.held, [i, j]].map(([y, x]) => shown.cells[y][x]);
  before.tabIndex = -1;
  before.classList.remove("held");
  after.tabIndex = 0;
  after.classList.add("held");
  shown.held = [i, j];
  explain(i, j);
}

at("matrix").addEventListener("focusin", (event) => {
  const found = place(event.target);
  if (found) hold(...found);
});
at("matrix").addEventListener("pointerover", (event) => {
  const found = place(event.target);
  if (found && event.pointerType === "mouse") explain(...found);
});
at("matrix").addEventListener("pointerleave", () => shown && explain(...shown.held));
at("matrix").addEventListener("keydown", (event) => {
  const last = shown.cells.length - 1, [i, j] = shown.held;
  const to = { ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1], Home: [i, 0], End: [i, last], PageUp: [0, j], PageDown: [last, j] }[event.key];
  if (!to || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  shown.cells[Math.min(last, Math.max(0, to[0]))][Math.min(last, Math.max(0, to[1]))].focus();
});

// ---------------------------------------------------------------- one entry

let pause = 0;
let looked = null; // the entry that is looked at
async function explain(i, j) {
  clearTimeout(pause);
  const here = (looked = [shown, i, j].join());
  const numbers = shown, [[rows], [columns]] = [shown.owner[i], shown.owner[j]];
  const key = rows + " " + columns;
  const ready = numbers.blocks.get(key);
  if (ready?.found) return showEntry(numbers, ready.found, i, j);
  at("entry-said").textContent = `${numbers.names[i]} with ${numbers.names[j]}: ${number(numbers.matrix[i][j], 6)}`;
  at("entry").replaceChildren(element("p", "Deriving its formula …", { className: "hint" }));
  pause = setTimeout(async () => {
    if (!numbers.blocks.has(key)) {
      const asked = { promise: ask("/numbers/block", { ...numbers.said, rows, columns }) };
      numbers.blocks.set(key, asked);
      asked.promise.then((found) => (asked.found = found), () => numbers.blocks.delete(key));
    }
    try {
      const found = await numbers.blocks.get(key).promise;
      if (looked === here && numbers === shown) showEntry(numbers, found, i, j);
    } catch (error) {
      if (looked === here) showError(at("entry"), error);
    }
  }, 120);
}

function unravel(k, shape) {
  const place = [];
  for (const size of [...shape].reverse()) {
    place.unshift(k % size);
    k = Math.floor(k / size);
  }
  return place;
}

function showEntry(numbers, block, i, j) {
  const [row, column] = [numbers.owner[i][1], numbers.owner[j][1]];
  const indices = new Map();
  block.indices.forEach((names, side) => unravel(side ? column : row, block.shapes[side]).forEach((k, axis) => indices.set(names[axis], k)));
  const width = block.shapes[1].reduce((a, b) => a * b, 1);
  const values = block.terms.map((term) => term.values[row * width + column]);
  const sum = values.reduce((a, b) => a + b, 0);
  at("entry-said").textContent =
    `${numbers.names[i]} with ${numbers.names[j]}: ${number(numbers.matrix[i][j], 6)}` +
    (values.length > 1 ? " = " + values.map((value, k) => `${k ? (value < 0 ? "− " + number(-value) : "+ " + number(value)) : number(value)}${block.terms[k].kind ? ` (${block.terms[k].kind})` : ""}`).join(" ") : values.length ? ` (${block.terms[0].kind ?? "one term"})` : ": its formula is 0");
  const formula = element("div", undefined, { className: "formula" });
  formula.tabIndex = 0;
  formula.setAttribute("role", "group");
  formula.setAttribute("aria-label", "The formula of its block");
  formula.append(math("span", block.left), " = ", math("span", block.right));
  const parts = [formula, element("p", "with " + [...indices].map(([name, k]) => `${name} = ${k + 1}`).join(", "), { className: "hint" })];
  if (block.terms.length) {
    block.terms.forEach((term, k) => parts.push(...termShown(block, term, values[k], indices, block.terms.length > 1 ? k + 1 : 0)));
    if (block.terms.length > 1) parts.push(element("h3", `Sum of the terms: ${number(sum, 6)}`));
  }
  if (block.defined.length) {
    parts.push(element("h3", "With"));
    for (const [left, right] of block.defined) {
      const line = element("div", undefined, { className: "formula" });
      line.tabIndex = 0;
      line.setAttribute("role", "group");
      line.setAttribute("aria-label", "A quantity in the formula");
      line.append(math("span", left), " = ", math("span", right));
      parts.push(line);
    }
  }
  at("entry").replaceChildren(...parts);
}

function termShown(block, term, value, indices, count) {
  const factors = term.factors.map((factor) => {
    let place = 0;
    factor.axes.forEach((name, axis) => (place = place * factor.shape[axis] + indices.get(name)));
    return factor.values.map((sample) => sample[place]);
  });
  const one = term.number === 1;
  const made = element("table", undefined, { className: "figures" });
  const head = made.createTHead().insertRow();
  const titled = (content, name) => {
    const cell = element("th", undefined, { scope: "col" });
    cell.append(content);
    if (name) {
      // Not every reader reads MathML.
      content.ariaHidden = "true";
      cell.append(element("span", name, { className: "unseen" }));
    }
    head.append(cell);
  };
  titled("sample");
  if (!one) titled(term.coefficient);
  for (const factor of term.factors) titled(math("span", factor.formula), factor.text);
  titled("product");
  const body = made.createTBody();
  const samples = term.factors.length ? factors[0].length : 0;
  for (let n = 0; n < samples; n++) {
    const line = body.insertRow();
    line.append(element("th", String(n + 1), { scope: "row" }));
    if (!one) line.insertCell().textContent = number(term.number);
    for (const factor of factors) line.insertCell().textContent = number(factor[n], 3);
    line.insertCell().textContent = number(factors.reduce((a, factor) => a * factor[n], term.number));
  }
  if (samples < block.samples) {
    const line = body.insertRow();
    line.append(element("th", `and ${block.samples - samples} more`, { scope: "row", colSpan: factors.length + (one ? 1 : 2) }));
    line.insertCell().textContent = "…";
  }
  const line = body.insertRow();
  line.className = "sum";
  line.append(element("th", block.mean ? "mean" : "sum", { scope: "row", colSpan: factors.length + (one ? 1 : 2) }));
  line.insertCell().textContent = number(value, 6);
  const scrolled = element("div", undefined, { className: "scrolled", tabIndex: 0 });
  scrolled.setAttribute("role", "group");
  scrolled.setAttribute("aria-label", "Its numbers");
  scrolled.append(made);
  const kind = term.kind ? term.kind[0].toUpperCase() + term.kind.slice(1) : "";
  return [element("h3", count ? `Term ${count}${kind ? ": " + kind.toLowerCase() : ""}` : kind || "Its one term"), scrolled];
}

// ---------------------------------------------------------------- eigenvalues

function spectrum() {
  if (shown) drawSpectrum(at("spectrum"), shown.eigenvalues, shown.tolerance);
}

function showEigenvalues() {
  at("inertia").textContent = shown.inertia + (shown.inertia.includes(" 0 undecided") ? "." : `: up to ${number(shown.tolerance, 2)} rounding decides of the sign.`);
  at("spectrum").setAttribute("aria-label", `${shown.eigenvalues.length} eigenvalues from ${number(shown.eigenvalues[0])} to ${number(shown.eigenvalues.at(-1))}: ${shown.inertia}`);
  at("eigenvalues").replaceChildren(...shown.eigenvalues.map((value) => element("li", number(value) + (Math.abs(value) <= shown.tolerance ? " (undecided)" : ""))));
  at("eigenvalues").tabIndex = 0;
  spectrum();
}
redrawn(spectrum);

doing("Computing", async () => {
  if (!at("arrays").value.trim()) await draw();
  await compute();
});
