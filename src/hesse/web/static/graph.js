import { arraysOf, showError } from "./drawing.js";

const form = document.getElementById("question");
const names = ["cost", "network", "wrt", "shapes", "given", "seed", "arrays"];
const state = document.getElementById("state");
const answer = document.getElementById("answer");
const example = document.getElementById("example");
const EACH = 1100; // milliseconds of a step that is played

function query() {
  const said = new URLSearchParams();
  for (const name of names) if (form.elements[name].value.trim()) said.set(name, form.elements[name].value.trim());
  return said;
}

// ---------------------------------------------------------------- a walk through the steps

// Step -1 is before the first: only what is given has numbers.
let walk = null;

function begin() {
  const svg = answer.querySelector("svg");
  if (!svg) {
    walk = null;
    return;
  }
  const panels = [...answer.querySelectorAll("details")];
  walk = {
    at: -1,
    timer: 0,
    steps: [...answer.querySelectorAll("li[data-step]")],
    numbers: [...svg.querySelectorAll("[data-step]")],
    nodes: [...svg.querySelectorAll(".node")],
    edges: [...svg.querySelectorAll(".edge")],
    picture: answer.querySelector(".picture"),
    list: answer.querySelector(".sweeps"),
  };
  // What is an image to read becomes a group of buttons.
  svg.setAttribute("role", "group");
  walk.nodes.forEach((node, place) => {
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "button");
    const open = () => panels.forEach((panel, other) => (panel.open = other === place));
    node.addEventListener("focus", open);
    const enter = () => {
      open();
      panels[place].querySelector("summary").focus();
    };
    node.addEventListener("click", enter);
    node.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      enter();
    });
  });
  answer.querySelector(".walk").hidden = false;
  show(-1);
}

function show(at) {
  const { steps, numbers, nodes, edges, picture, list } = walk;
  walk.at = Math.max(-1, Math.min(at, steps.length - 1));
  const step = steps[walk.at];
  steps.forEach((one, place) => {
    one.hidden = place > walk.at;
    if (one === step) one.setAttribute("aria-current", "step");
    else one.removeAttribute("aria-current");
  });
  for (const text of numbers) text.classList.toggle("ahead", Number(text.dataset.step) > walk.at);
  const sweeps = [...answer.querySelectorAll(".sweep")];
  const sweep = step ? sweeps.indexOf(step.closest(".sweep")) : -1;
  sweeps.forEach((one, place) => (one.hidden = place > Math.max(sweep, 0)));
  if (step) into(list, step);
  const backward = sweep % 2 === 1;
  for (const node of nodes) {
    const now = step !== undefined && node.dataset.node === step.dataset.node;
    node.classList.toggle("now", now);
    node.dataset.sweep = now ? sweep : "";
    if (now) into(picture, node);
  }
  for (const edge of edges) {
    const used = step !== undefined && (backward ? edge.dataset.from : edge.dataset.to) === step.dataset.node;
    edge.classList.toggle("used", used);
    const [there, back] = used && backward ? ["marker-start", "marker-end"] : ["marker-end", "marker-start"];
    edge.setAttribute(there, "url(#computation-arrow)");
    edge.removeAttribute(back);
  }
  answer.querySelector(".count").textContent = "Step " + (walk.at + 1) + " of " + steps.length;
  const title = step && sweeps[sweep].querySelector("h2").textContent;
  answer.querySelector(".now").textContent = step
    ? title + ": " + step.querySelector(".line").textContent + " = " + step.querySelector(".value").textContent
    : "What is given has its numbers. Next computes the first quantity.";
  answer.querySelector("[data-walk=back]").disabled = walk.at < 0;
  answer.querySelector("[data-walk=next]").disabled = walk.at === steps.length - 1;
}

// Scrolls what holds it and not the page, and only as far as it takes.
function into(frame, part) {
  const [box, seen] = [part.getBoundingClientRect(), frame.getBoundingClientRect()];
  if (box.bottom > seen.bottom) frame.scrollTop += box.bottom - seen.bottom + 20;
  if (box.top < seen.top) frame.scrollTop -= seen.top - box.top + 20;
  if (box.right > seen.right) frame.scrollLeft += box.right - seen.right + 20;
  if (box.left < seen.left) frame.scrollLeft -= seen.left - box.left + 20;
}

function pause() {
  clearInterval(walk.timer);
  walk.timer = 0;
  answer.querySelector("[data-walk=play]").textContent = "Play";
}

function play() {
  if (walk.at === walk.steps.length - 1) show(-1);
  answer.querySelector("[data-walk=play]").textContent = "Pause";
  walk.timer = setInterval(() => {
    show(walk.at + 1);
    if (walk.at === walk.steps.length - 1) pause();
  }, EACH);
}

function move(how) {
  const playing = walk.timer;
  pause();
  if (how === "back") show(walk.at - 1);
  else if (how === "next") show(walk.at + 1);
  else if (how === "first") show(-1);
  else if (how === "all") show(walk.steps.length - 1);
  else if (!playing) play();
}

answer.addEventListener("click", (event) => {
  const button = event.target.closest("[data-walk]");
  if (button) move(button.dataset.walk);
});
const KEYS = { ArrowLeft: "back", ArrowRight: "next", Home: "first", End: "all" };
document.addEventListener("keydown", (event) => {
  if (!walk || !KEYS[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  move(KEYS[event.key]);
});

// ---------------------------------------------------------------- questions

function fail(error) {
  showError(answer, error);
  state.textContent = "";
  walk = null;
}

let running = null;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  running?.abort();
  running = new AbortController();
  const said = query();
  state.textContent = "Drawing …";
  try {
    const reply = await fetch("/graph/answer?" + said, { signal: running.signal });
    if (walk) pause();
    // Made by the templates of this server, which escape what was typed.
    answer.innerHTML = await reply.text();
    state.textContent = "";
    if (reply.ok) {
      history.pushState(null, "", "/graph?" + said);
      answer.focus({ preventScroll: true });
    }
    begin();
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  }
});
example.addEventListener("change", () => {
  const said = new URLSearchParams(example.value);
  for (const name of names) if (name !== "seed") form.elements[name].value = said.get(name) || "";
  if (example.value) form.requestSubmit();
});
for (const name of names) form.elements[name].addEventListener("input", () => name !== "seed" && name !== "arrays" && (example.value = ""));
const file = document.getElementById("file");
file.addEventListener("change", async () => {
  try {
    form.elements.arrays.value = await arraysOf(file, form.elements.arrays.value);
    form.requestSubmit();
  } catch (error) {
    fail(error);
  }
});
addEventListener("popstate", () => location.reload());
begin();
