"use strict";
const form = document.getElementById("question");
const fields = Object.fromEntries(["cost", "network", "wrt", "shapes", "given"].map((name) => [name, form.elements[name]]));
const reading = document.getElementById("reading");
const state = document.getElementById("state");
const answer = document.getElementById("answer");
const example = document.getElementById("example");

function query() {
  const said = new URLSearchParams();
  for (const [name, field] of Object.entries(fields)) if (field.value.trim()) said.set(name, field.value.trim());
  return said;
}

function element(tag, text, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  return made;
}

async function ask(path, said, signal) {
  const reply = await fetch(path + "?" + said, { signal });
  const kind = reply.headers.get("content-type") || "";
  if (!kind.startsWith("application/json")) throw new Error(await reply.text());
  return reply.json();
}

// Shapes as they are declared, with one of them said otherwise.
function declare(name, shape) {
  const others = fields.shapes.value.match(/[^\s\[\]]+\s*\[[^\]]*\]/g) || [];
  fields.shapes.value = [...others.filter((one) => one.split("[")[0].trim() !== name), name + shape].join(" ");
  read();
}

/** A shape that can be changed, to other letters or numbers. */
function shapeOf(array) {
  const box = element("input", undefined, { value: array.shape, size: Math.max(6, array.shape.length + 1), autocomplete: "off", spellcheck: false });
  box.setAttribute("aria-label", "Shape of " + array.name);
  box.addEventListener("change", () => declare(array.name, "[" + box.value.replace(/[\[\]]/g, "").trim() + "]"));
  // Enter is for the shape alone.
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    box.blur();
  });
  return box;
}

function choose(name, wanted) {
  const names = fields.wrt.value.split(/[\s,]+/).filter(Boolean).filter((one) => one !== name);
  if (wanted) names.push(name);
  fields.wrt.value = names.join(", ");
  read();
}

function show(found) {
  reading.replaceChildren();
  if (found.error) {
    reading.append(element("pre", found.error, { className: "error" }));
    return;
  }
  if (found.network) reading.append(element("p", "Read as the network " + found.network + ", for one sample."));
  else if (!fields.wrt.value.trim()) fields.wrt.value = found.wrt;
  const table = element("table");
  const head = table.createTHead().insertRow();
  for (const title of ["Name", "Shape", "Read as", "Parameter", "Or"]) head.append(element("th", title, { scope: "col" }));
  const body = table.createTBody();
  for (const array of found.arrays) {
    const row = body.insertRow();
    row.append(element("th", array.name, { scope: "row" }));
    const shape = row.insertCell();
    if (found.network) shape.textContent = array.shape;
    else shape.append(shapeOf(array));
    row.insertCell().textContent = array.kind;
    const box = element("input", undefined, { type: "checkbox", checked: array.parameter });
    box.setAttribute("aria-label", array.name + " is a parameter");
    box.addEventListener("change", () => choose(array.name, box.checked));
    row.insertCell().append(box);
    const cell = row.insertCell();
    if (array.otherwise !== null) {
      const other = array.otherwise === "[]" ? "a number" : array.otherwise.includes(",") ? "a matrix" : "a vector";
      const button = element("button", "take it as " + other, { type: "button" });
      button.addEventListener("click", () => declare(array.name, array.otherwise));
      cell.append(button);
    }
  }
  reading.append(table);
  if (found.shape) reading.append(element("p", "A vector or a matrix, of shape " + found.shape + ": its first derivatives are derived."));
}

let asked = null;
let pause = 0;
async function read() {
  asked?.abort();
  asked = new AbortController();
  const said = query();
  if (!said.has("cost") && !said.has("network")) {
    reading.replaceChildren();
    return;
  }
  try {
    show(await ask("/reading", said, asked.signal));
  } catch (error) {
    if (error.name !== "AbortError") show({ error: error.message });
  }
}

function soon() {
  clearTimeout(pause);
  pause = setTimeout(read, 250);
}
for (const [name, field] of Object.entries(fields)) {
  field.addEventListener("input", () => {
    example.value = "";
    // Other arrays may be its parameters.
    if (name === "cost" && !field.value.trim()) fields.wrt.value = fields.shapes.value = fields.given.value = "";
    soon();
  });
}
example.addEventListener("change", () => {
  const said = new URLSearchParams(example.value);
  for (const [name, field] of Object.entries(fields)) field.value = said.get(name) || "";
  answer.replaceChildren();
  state.textContent = "";
  read();
});

let running = null;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  running?.abort();
  running = new AbortController();
  const said = query();
  state.textContent = "Deriving …";
  const start = performance.now();
  try {
    const reply = await fetch("/answer?" + said, { signal: running.signal });
    const text = await reply.text();
    // Made by the templates of this server, which escape what was typed.
    answer.innerHTML = text;
    state.textContent = reply.ok ? "Derived in " + ((performance.now() - start) / 1000).toFixed(1) + " s." : "";
    if (reply.ok) {
      history.pushState(null, "", "/?" + said);
      answer.focus({ preventScroll: false });
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    answer.replaceChildren(element("pre", error.message, { className: "error" }));
    state.textContent = "";
  }
});
addEventListener("popstate", () => location.reload());

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
answer.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copies, button.copy");
  if (!button) return;
  const code = button.dataset.copies ? document.getElementById(button.dataset.copies) : button.nextElementSibling;
  await copy(button.dataset.copies ? code.textContent : code.innerText);
  const said = answer.querySelector(".said");
  if (said) said.textContent = button.textContent.replace("Copy", "Copied") + ".";
});
function unhide() {
  for (const button of answer.querySelectorAll("button.copy[hidden]")) button.hidden = false;
}
new MutationObserver(unhide).observe(answer, { childList: true });
unhide();
read();
