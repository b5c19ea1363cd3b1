import { Signed, VERMILION, ask, css, drawSpectrum, element, number, paper, redrawn, showError, table, themed } from "./drawing.js";

const at = (id) => document.getElementById(id);
const map = at("map");
const NAMED = 24; // cells up to which each has its name beside it
const ZOOM = 4;
let about = null; // what is held
let view = null; // the window that is drawn
let cursor = [0, 0]; // the cell that is looked at
let held = [0, 0]; // and where the keyboard is
let wanted = null; // the window that is asked for next
let reading = false;

// ---------------------------------------------------------------- names

/** The parameter that an entry of the flat vector belongs to. */
function parameterAt(k) {
  let [low, high] = [0, about.parameters.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (about.parameters[middle].begin <= k) low = middle;
    else high = middle - 1;
  }
  return about.parameters[low];
}

/** The name of an entry, counted from zero as in Python. */
function nameOf(k) {
  const { name, shape, begin } = parameterAt(k);
  const place = [];
  let rest = k - begin;
  for (const size of [...shape].reverse()) {
    place.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return place.length ? `${name}[${place.join(",")}]` : name;
}

const span = (edges, k) => (edges[k + 1] - edges[k] === 1 ? nameOf(edges[k]) : `${nameOf(edges[k])} to ${nameOf(edges[k + 1] - 1)}`);

// ---------------------------------------------------------------- the window

/** One window is read at a time: of those that are asked for meanwhile the last. */
async function show(...window) {
  wanted = window;
  if (reading) return;
  reading = true;
  at("state").textContent = "Reading …";
  while (wanted) {
    const next = wanted;
    wanted = null;
    await read(...next);
  }
  at("state").textContent = "";
  reading = false;
}

async function read(top, left, rows, columns, place) {
  [rows, columns] = [rows, columns].map((count) => Math.max(1, Math.min(about.size, Math.round(count))));
  [top, left] = [[top, rows], [left, columns]].map(([start, count]) => Math.max(0, Math.min(about.size - count, Math.round(start))));
  try {
    const found = await ask("/explore/window?" + new URLSearchParams({ top, left, rows, columns }));
    view = { ...found, top, left, height: rows, width: columns, colours: new Signed(found.cells.flat()) };
    const cell = (edges, k) => Math.max(0, Math.min(edges.length - 2, edges.findIndex((edge) => edge > k) - 1));
    held = place ? [cell(view.rows, place[0]), cell(view.columns, place[1])] : [0, 0];
    showError(at("error"));
    view.colours.scale(at("scale"), { entry: "single entries", largest: "the entry of largest size of each cell", "root mean square": "the root mean square of each tile: zoom in for entries" }[view.what]);
    look(...held);
  } catch (error) {
    showError(at("error"), error);
  }
}

const whole = () => show(0, 0, about.size, about.size);
/** Around a cell, the window so many times as large. */
function zoom([i, j], times) {
  if (!view) return;
  const [y, x] = [(view.rows[i] + view.rows[i + 1]) / 2, (view.columns[j] + view.columns[j + 1]) / 2];
  const [rows, columns] = [view.height, view.width].map((count) => Math.max(Math.min(8, about.size), count * times));
  show(y - rows / 2, x - columns / 2, rows, columns, [Math.floor(y), Math.floor(x)]);
}

function move(i, j) {
  const [height, width] = [view.cells.length, view.cells[0].length];
  const [y, x] = [i, j].map((k, side) => (side ? view.columns : view.rows)[Math.max(0, Math.min((side ? width : height) - 1, k))]);
  // Beyond the edge the window goes along by half.
  const down = i < 0 ? -0.5 : i >= height ? 0.5 : 0, along = j < 0 ? -0.5 : j >= width ? 0.5 : 0;
  const [top, left] = [view.top + down * view.height, view.left + along * view.width];
  const there = [Math.max(0, Math.min(about.size - view.height, Math.round(top))), Math.max(0, Math.min(about.size - view.width, Math.round(left)))];
  if ((down || along) && (there[0] !== view.top || there[1] !== view.left)) show(top, left, view.height, view.width, [y, x]);
  else if (!down && !along) {
    held = [i, j];
    look(i, j);
  }
}

function look(i, j) {
  cursor = [i, j];
  const value = view.cells[i][j], [rows, columns] = [span(view.rows, i), span(view.columns, j)];
  at("cell").textContent = `${rows} with ${columns}: ${value === null ? "not computed, or not finite" : number(value, view.what === "entry" ? 8 : 4)}`;
  at("where").textContent = `Rows ${view.rows[0]} to ${view.rows.at(-1) - 1} and columns ${view.columns[0]} to ${view.columns.at(-1) - 1} of ${about.size}.`;
  draw();
}

// ---------------------------------------------------------------- drawing

function frame(width, height) {
  const margin = view && Math.max(view.cells.length, view.cells[0].length) <= NAMED ? Math.min(110, width / 4) : Math.min(84, width / 5);
  return { left: margin, top: margin, width: width - margin - 2, height: height - margin - 2 };
}

function draw() {
  const on = view && paper(map);
  if (!on) return;
  const { pen } = on, box = frame(on.width, on.height), [height, width] = [view.cells.length, view.cells[0].length];
  const x = (j) => box.left + (j / width) * box.width, y = (i) => box.top + (i / height) * box.height;
  view.cells.forEach((row, i) => row.forEach((value, j) => {
    pen.fillStyle = css(view.colours.colour(value));
    // A little wider, so that nothing shines through between them.
    pen.fillRect(x(j), y(i), box.width / width + 0.6, box.height / height + 0.6);
  }));
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  borders(view.rows, (k) => y(k), (k) => [box.left, y(k), box.left + box.width, y(k)], pen, box.left - 5, false);
  borders(view.columns, (k) => x(k), (k) => [x(k), box.top, x(k), box.top + box.height], pen, box.top - 5, true);
  const [i, j] = cursor;
  for (const [colour, wide] of [["#fff", 4], [VERMILION, 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = wide;
    pen.strokeRect(x(j) - 1, y(i) - 1, box.width / width + 2, box.height / height + 2);
  }
}

/** Lines where parameters begin, and names along one side: of entries where there are few. */
function borders(edges, place, line, pen, beside, upright) {
  const cells = edges.length - 1, names = [];
  const inside = (k) => {
    let cell = edges.findIndex((edge) => edge >= k);
    if (edges[cell] > k) cell -= 1 - (k - edges[cell - 1]) / (edges[cell] - edges[cell - 1]);
    return cell;
  };
  pen.lineWidth = 1;
  pen.strokeStyle = "#333";
  for (const { name, shape, begin } of about.parameters) {
    const end = begin + shape.reduce((a, b) => a * b, 1);
    if (end <= edges[0] || begin >= edges[cells] || begin === end) continue;
    const [low, high] = [inside(Math.max(begin, edges[0])), inside(Math.min(end, edges[cells]))];
    if (begin > edges[0]) {
      const [x0, y0, x1, y1] = line(low);
      pen.beginPath();
      pen.moveTo(x0, y0);
      pen.lineTo(x1, y1);
      pen.stroke();
    }
    if (cells > NAMED || cells !== edges[cells] - edges[0]) names.push([(place(low) + place(high)) / 2, name, place(high) - place(low)]);
  }
  if (!names.length) for (let k = 0; k < cells; k++) names.push([place(k + 0.5), nameOf(edges[k]), Infinity]);
  pen.fillStyle = themed("--ink");
  for (const [middle, name, room] of names) {
    if (room < 12) continue;
    pen.save();
    if (upright) {
      pen.translate(middle, beside);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
    } else {
      pen.translate(beside, middle);
      pen.textAlign = "right";
    }
    let text = name;
    while (text.length > 2 && pen.measureText(text).width > beside - 2) text = text.replace(/^…/, "").slice(1).replace(/^/, "…");
    pen.fillText(text, 0, 0);
    pen.restore();
  }
}

function cellOf(event) {
  if (!view) return null;
  const outer = map.getBoundingClientRect(), box = frame(outer.width, outer.height);
  const [i, j] = [Math.floor(((event.clientY - outer.top - box.top) / box.height) * view.cells.length), Math.floor(((event.clientX - outer.left - box.left) / box.width) * view.cells[0].length)];
  return i >= 0 && j >= 0 && i < view.cells.length && j < view.cells[0].length ? [i, j] : null;
}

map.addEventListener("pointermove", (event) => {
  const cell = event.pointerType === "mouse" && cellOf(event);
  if (cell) look(...cell);
});

// ---------------------------------------------------------------- fingers

// One moves the window, two make it smaller and larger; what is drawn follows until they are lifted.
let fingers = null; // where each began and is, and the picture as it was
const TAP = 8; // pixels within which a finger rests

function place({ clientX, clientY }) {
  const box = map.getBoundingClientRect();
  return [clientX - box.left, clientY - box.top];
}

/** How many times the picture is as large, and which place of it is now where. */
function gesture() {
  const middle = (of) => [0, 1].map((k) => of.reduce((sum, one) => sum + one[k], 0) / of.length);
  const apart = (of) => (of.length > 1 ? Math.max(1, Math.hypot(of[0][0] - of[1][0], of[0][1] - of[1][1])) : 1);
  const [began, now] = [fingers.began, fingers.now].map((of) => [...of.values()]);
  return { times: apart(now) / apart(began), from: middle(began), to: middle(now) };
}

function follow() {
  const { times, from, to } = gesture(), on = paper(map), box = frame(on.width, on.height), { pen } = on;
  pen.drawImage(fingers.still, 0, 0, on.width, on.height);
  pen.beginPath();
  pen.rect(box.left, box.top, box.width, box.height);
  pen.clip();
  pen.fillStyle = themed("--tint");
  pen.fill();
  pen.translate(to[0] - times * from[0], to[1] - times * from[1]);
  pen.drawImage(fingers.still, 0, 0, times * on.width, times * on.height);
}

function lift(event) {
  const { times, from, to } = gesture(), moved = times !== 1 || Math.hypot(to[0] - from[0], to[1] - from[1]) > TAP;
  fingers = null;
  const cell = !moved && event.type === "pointerup" && cellOf(event);
  if (cell) return move(...cell);
  if (!moved || event.type !== "pointerup") return draw();
  const outer = map.getBoundingClientRect(), box = frame(outer.width, outer.height);
  const [rows, columns] = [view.height, view.width].map((count) => Math.max(Math.min(8, about.size), count / times));
  const top = view.top + ((from[1] - box.top) / box.height) * view.height - ((to[1] - box.top) / box.height) * rows;
  const left = view.left + ((from[0] - box.left) / box.width) * view.width - ((to[0] - box.left) / box.width) * columns;
  show(top, left, rows, columns, [Math.floor(top + rows / 2), Math.floor(left + columns / 2)]);
}

map.addEventListener("pointerdown", (event) => {
  if (!view || event.pointerType === "mouse" || fingers?.now.size > 1) return;
  map.setPointerCapture(event.pointerId);
  if (!fingers) {
    const still = element("canvas", undefined, { width: map.width, height: map.height });
    still.getContext("2d").drawImage(map, 0, 0);
    fingers = { began: new Map(), now: new Map(), still };
  }
  // Where a second one comes the first begins again.
  fingers.now.set(event.pointerId, place(event));
  fingers.began = new Map(fingers.now);
});
map.addEventListener("pointermove", (event) => {
  if (!fingers?.now.has(event.pointerId)) return;
  fingers.now.set(event.pointerId, place(event));
  follow();
});
for (const end of ["pointerup", "pointercancel"]) map.addEventListener(end, (event) => fingers?.now.has(event.pointerId) && lift(event));

map.addEventListener("pointerleave", (event) => view && event.pointerType === "mouse" && look(...held));
map.addEventListener("click", (event) => {
  const cell = cellOf(event);
  if (cell) move(...cell);
});
map.addEventListener("dblclick", (event) => {
  const cell = cellOf(event);
  if (cell) zoom(cell, 1 / ZOOM);
});
map.addEventListener("keydown", (event) => {
  if (!view || event.ctrlKey || event.altKey || event.metaKey) return;
  const [i, j] = held, far = event.shiftKey ? 8 : 1;
  const to = { ArrowUp: [i - far, j], ArrowDown: [i + far, j], ArrowLeft: [i, j - far], ArrowRight: [i, j + far] }[event.key];
  if (to) move(...to);
  else if (event.key === "Enter" || event.key === "+") zoom(held, 1 / ZOOM);
  else if (event.key === "Backspace" || event.key === "-") zoom(held, ZOOM);
  else if (event.key === "Home") whole();
  else return;
  event.preventDefault();
});
at("in").addEventListener("click", () => zoom(held, 1 / ZOOM));
at("out").addEventListener("click", () => zoom(held, ZOOM));
at("whole").addEventListener("click", () => about && whole());
redrawn(draw);

// ---------------------------------------------------------------- tables

function showTables() {
  at("summary").textContent = about.summary;
  const begin = new Map(about.parameters.map((one) => [one.name, one.begin]));
  at("blocks-said").textContent = about.count > about.blocks.length ? `The ${about.blocks.length} of ${about.count} blocks with the largest norms.` : "Largest norms first; a name shows its block in the heat map.";
  at("blocks").replaceChildren(table(["block", "shape", "Frobenius norm", "trace"], about.blocks.map((block) => {
    const button = element("button", `${block.rows} × ${block.columns}`, { type: "button" });
    button.addEventListener("click", () => {
      show(begin.get(block.rows), begin.get(block.columns), ...block.shape);
      map.focus();
    });
    return [button, block.shape.join(" × "), number(block.norm), block.trace === null ? "" : number(block.trace)];
  })));
  at("layers").replaceChildren(table(["layer", "parameters", "entries", "norm of its own block", "trace"], about.layers.map((layer) => [layer.name, layer.parameters.join(", "), String(layer.size), layer.norm === null ? "" : number(layer.norm), layer.trace === null ? "" : number(layer.trace)]), [1]));
  for (const [name, text] of Object.entries({ ...about.provenance, certificate: about.certificate })) at("provenance").append(element("dt", name), element("dd", text));
}

async function showSpectrum() {
  try {
    const found = await ask("/explore/spectrum");
    at("inertia").textContent = `${found.inertia}; condition number ${found.condition === null ? "infinite" : number(found.condition)}.`;
    at("spectrum").hidden = false;
    at("spectrum").setAttribute("aria-label", `${found.eigenvalues.length} eigenvalues from ${number(found.eigenvalues[0])} to ${number(found.eigenvalues.at(-1))}: ${found.inertia}`);
    const again = () => drawSpectrum(at("spectrum"), found.eigenvalues, found.tolerance);
    again();
    redrawn(again);
  } catch (error) {
    at("inertia").textContent = error.message;
  }
}

try {
  about = await ask("/explore/about");
  showTables();
  await whole();
  showSpectrum();
} catch (error) {
  showError(at("error"), error);
}
