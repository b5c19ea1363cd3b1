import { GREEN, ORANGE, PURPLE, VERMILION, ask, css, element, number, paper, redrawn, sequential, showError, table } from "./drawing.js";

const at = (id) => document.getElementById(id);
const LEVELS = 12; // of the contours, as in hesse.plot
const PIXELS = 360; // of a picture to a side, before it is laid over its place on the screen
const STEPS = { Newton: PURPLE, "trust region": GREEN, cubic: ORANGE };

/** The true cost and its model over a plane, with a point to drag and steps from its middle. */
export class Plane {
  constructor() {
    this.found = null;
    for (const id of ["u", "v"]) at(id).addEventListener("change", () => this.load(""));
    at("closer").addEventListener("click", () => this.load(this.reach / 2));
    at("farther").addEventListener("click", () => this.load(this.reach * 2));
    for (const id of ["true", "model"]) {
      const canvas = at(id), handle = canvas.nextElementSibling;
      // A mouse takes the point to where it is pressed, a finger to where it taps; both drag it.
      canvas.addEventListener("pointerdown", (event) => {
        if (event.pointerType !== "mouse") return;
        handle.setPointerCapture(event.pointerId);
        this.drag(canvas, event);
      });
      // One that scrolls the page is cancelled instead.
      canvas.addEventListener("pointerup", (event) => event.pointerType !== "mouse" && this.drag(canvas, event));
      handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
      handle.addEventListener("pointermove", (event) => handle.hasPointerCapture(event.pointerId) && this.drag(canvas, event));
    }
    at("true").addEventListener("keydown", (event) => {
      const far = event.shiftKey ? 5 : 1;
      const by = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] }[event.key];
      if (by) this.move(this.x + by[0], this.y + by[1]);
      else if (event.key === "Home") this.move(this.middle, this.middle);
      else return;
      event.preventDefault();
    });
    at("a").addEventListener("input", () => this.move(Number(at("a").value), this.y));
    at("b").addEventListener("input", () => this.move(this.x, Number(at("b").value)));
    for (const id of ["radius", "bound"]) at(id).addEventListener("input", () => this.steps());
    redrawn(() => this.draw());
  }

  get reach() {
    return this.found.line.at(-1);
  }

  get middle() {
    return (this.found.line.length - 1) / 2;
  }

  /** The plane of the two extreme eigenvectors of new numbers, or what was chosen before. */
  show(numbers) {
    const same = this.numbers?.names.join() === numbers.names.join();
    const before = ["u", "v"].map((id) => at(id).value);
    this.numbers = numbers;
    const last = numbers.eigenvalues.length - 1;
    for (const id of ["u", "v"]) {
      const vectors = element("optgroup", undefined, { label: "Eigenvectors" });
      numbers.eigenvalues.forEach((value, k) => vectors.append(element("option", `eigenvector of λ = ${number(value, 3)}`, { value: "eigenvector " + k })));
      const weights = element("optgroup", undefined, { label: "Weights" });
      numbers.names.forEach((name, k) => weights.append(element("option", name, { value: "weight " + k })));
      at(id).replaceChildren(vectors, weights);
    }
    [at("u").value, at("v").value] = same ? before : ["eigenvector " + last, "eigenvector 0"];
    this.load("");
  }

  async load(reach) {
    const numbers = this.numbers;
    this.asked?.abort();
    this.asked = new AbortController();
    at("plane-state").textContent = "Computing …";
    try {
      const found = await ask("/numbers/plane", { ...numbers.said, u: at("u").value, v: at("v").value, reach: String(reach) }, this.asked.signal);
      at("plane-state").textContent = "";
      this.take(found);
    } catch (error) {
      if (error.name === "AbortError") return;
      at("plane").hidden = true;
      showError(at("plane-state"), error);
    }
  }

  take(found) {
    this.found = found;
    const { line } = found, side = line.length;
    this.model = [];
    for (const b of line) for (const a of line) this.model.push(this.parts(a, b).reduce((sum, part) => sum + part, 0));
    const known = found.true.filter((value) => value !== null).sort((a, b) => a - b);
    // As much of the picture lies between any two, by the true cost.
    this.levels = [...new Set(Array.from({ length: LEVELS }, (_, k) => known[Math.round((k / (LEVELS - 1)) * (known.length - 1))]))];
    this.images = { true: this.image(found.true), model: this.image(this.model) };
    at("plane").hidden = false;
    at("reach").textContent = `±${number(this.reach, 3)}`;
    for (const id of ["a", "b"]) Object.assign(at(id), { min: 0, max: side - 1, step: 1 });
    for (const [id, many] of [["radius", found.trust], ["bound", found.cubic]]) Object.assign(at(id), { min: 0, max: many.length - 1, step: 1, value: (many.length - 1) / 2 });
    at("stationary").textContent = "Of the model in this plane, the stationary point is a " + found.stationary + ".";
    const bar = element("span", undefined, { className: "bar" });
    for (let k = 0; k <= this.levels.length; k++) {
      const part = element("span");
      part.style.background = css(sequential(k / this.levels.length));
      bar.append(part);
    }
    at("scale").replaceChildren(element("span", "J: " + number(this.levels[0])), bar, element("span", number(this.levels.at(-1))), element("span", "in both pictures"));
    [this.x, this.y] = [this.middle, this.middle];
    this.steps();
    this.move(this.x, this.y);
  }

  /** J, gᵀs and ½ sᵀHs at a place. */
  parts(a, b) {
    const { value, gradient: [ga, gb], hessian: [[aa, ab], [, bb]] } = this.found;
    return [value, ga * a + gb * b, (aa * a * a + 2 * ab * a * b + bb * b * b) / 2];
  }

  /** Bands of costs and the contours between them. */
  image(values) {
    const side = this.found.line.length, canvas = element("canvas", undefined, { width: PIXELS, height: PIXELS });
    const pen = canvas.getContext("2d"), picture = pen.createImageData(PIXELS, PIXELS);
    const bands = new Int16Array(PIXELS * PIXELS);
    for (let py = 0; py < PIXELS; py++) {
      for (let px = 0; px < PIXELS; px++) {
        const x = (px / (PIXELS - 1)) * (side - 1), y = (1 - py / (PIXELS - 1)) * (side - 1);
        const i = Math.min(side - 2, Math.floor(x)), j = Math.min(side - 2, Math.floor(y));
        const corners = [values[j * side + i], values[j * side + i + 1], values[(j + 1) * side + i], values[(j + 1) * side + i + 1]];
        if (corners.includes(null)) {
          bands[py * PIXELS + px] = -1;
          continue;
        }
        const low = corners[0] + (x - i) * (corners[1] - corners[0]), high = corners[2] + (x - i) * (corners[3] - corners[2]);
        const value = low + (y - j) * (high - low);
        let band = 0;
        while (band < this.levels.length && value > this.levels[band]) band++;
        bands[py * PIXELS + px] = band;
      }
    }
    for (let k = 0; k < bands.length; k++) {
      const edge = (k % PIXELS && bands[k] !== bands[k - 1]) || (k >= PIXELS && bands[k] !== bands[k - PIXELS]);
      const colour = bands[k] < 0 ? [150, 150, 150] : sequential(bands[k] / this.levels.length).map((c) => (edge ? Math.round(c * 0.62) : c));
      picture.data.set([...colour, 255], 4 * k);
    }
    pen.putImageData(picture, 0, 0);
    return canvas;
  }

  get chosen() {
    const { newton, trust, cubic } = this.found;
    return { Newton: newton, "trust region": trust[at("radius").value], cubic: cubic[at("bound").value] };
  }

  steps() {
    const { "trust region": trust, cubic } = this.chosen;
    at("radius-said").textContent = number(trust.radius, 3);
    at("bound-said").textContent = number(cubic.bound, 3);
    at("radius").setAttribute("aria-valuetext", number(trust.radius, 3));
    at("bound").setAttribute("aria-valuetext", number(cubic.bound, 3));
    const rows = Object.entries(this.chosen).map(([name, step]) => {
      const title = element("span");
      const swatch = element("span", undefined, { className: "swatch" });
      swatch.style.background = STEPS[name];
      title.append(swatch, name);
      if (step.refused) return [title, "", "", "", "", "", "refused: " + step.refused.replace(/^[^:]*: /, "")];
      const go = element("button", "Go there", { type: "button" });
      go.setAttribute("aria-label", `Go there: the step of ${name}`);
      go.addEventListener("click", () => this.moveTo(...step.vector));
      return [title, number(Math.hypot(...step.vector)), number(step.multiplier), number(step.predicted), number(step.actual), go, step.reason];
    });
    at("steps").replaceChildren(table(["step", "‖s‖", "λ", "model falls by", "cost falls by", "point", "how"], rows, [6]));
    this.draw();
  }

  drag(canvas, event) {
    const box = canvas.getBoundingClientRect(), last = 2 * this.middle;
    this.move(Math.round(((event.clientX - box.left) / box.width) * last), Math.round((1 - (event.clientY - box.top) / box.height) * last));
  }

  moveTo(a, b) {
    this.move(...[a, b].map((c) => Math.round((c / this.reach + 1) * this.middle)));
  }

  /** The point to a node of the grid, where the true cost is known. */
  move(x, y) {
    const last = 2 * this.middle;
    [this.x, this.y] = [x, y].map((k) => Math.min(last, Math.max(0, k)));
    const { line } = this.found, [a, b] = [line[this.x], line[this.y]];
    const parts = this.parts(a, b), model = parts[0] + parts[1] + parts[2];
    const true_ = this.found.true[this.y * line.length + this.x];
    for (const [id, place, value] of [["a", this.x, a], ["b", this.y, b]]) {
      at(id).value = place;
      at(id).setAttribute("aria-valuetext", number(value, 3));
    }
    const made = table(["a, b", "J", "gᵀs", "½ sᵀHs", "model: their sum", "true cost", "true − model"], [[`${number(a, 3)}, ${number(b, 3)}`, ...[...parts, model, true_, true_ === null ? null : true_ - model].map((value) => number(value, 5))]]);
    at("point").replaceChildren(...made.childNodes);
    clearTimeout(this.pause);
    // Said when it rests.
    this.pause = setTimeout(() => (at("point-said").textContent = `At a = ${number(a, 3)}, b = ${number(b, 3)} the model is ${number(model)} and the true cost ${number(true_)}.`), 300);
    this.draw();
  }

  draw() {
    if (!this.found) return;
    for (const id of ["true", "model"]) {
      const on = paper(at(id));
      if (!on) continue;
      const { pen, width, height } = on, place = (a, b) => [((a / this.reach + 1) / 2) * width, ((1 - b / this.reach) / 2) * height];
      pen.drawImage(this.images[id], 0, 0, width, height);
      const [cx, cy] = place(0, 0), { radius } = this.chosen["trust region"];
      pen.setLineDash([3, 4]);
      pen.lineWidth = 1.5;
      pen.strokeStyle = "#222";
      pen.beginPath();
      pen.arc(cx, cy, ((radius / this.reach) * width) / 2, 0, 2 * Math.PI);
      pen.stroke();
      pen.setLineDash([]);
      for (const [name, step] of Object.entries(this.chosen)) {
        if (step.refused) continue;
        const [x, y] = place(...step.vector);
        for (const [colour, wide] of [["#fff", 5], [STEPS[name], 3]]) {
          pen.strokeStyle = pen.fillStyle = colour;
          pen.lineWidth = wide;
          pen.beginPath();
          pen.moveTo(cx, cy);
          pen.lineTo(x, y);
          pen.stroke();
          pen.beginPath();
          pen.arc(x, y, wide + 2, 0, 2 * Math.PI);
          pen.fill();
        }
      }
      pen.fillStyle = "#222";
      pen.strokeStyle = "#fff";
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.arc(cx, cy, 5, 0, 2 * Math.PI);
      pen.fill();
      pen.stroke();
      const [px, py] = place(this.found.line[this.x], this.found.line[this.y]);
      Object.assign(at(id).nextElementSibling.style, { left: px + "px", top: py + "px" });
      for (const [colour, wide] of [["#fff", 6], [VERMILION, 3.5]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = wide;
        pen.beginPath();
        pen.arc(px, py, 9, 0, 2 * Math.PI);
        pen.stroke();
      }
    }
  }
}
