// Two things: the explorer of schedules, and names and numbers of what the pointer is at in the figures.
// Nothing is computed here but places on the screen: every number was embedded by Python.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const plain = (x) => x === 0 || (Math.abs(x) >= 1e-4 && Math.abs(x) < 1e5);
const digits = (x) => (plain(x) ? String(x) : x.toExponential(2)).replaceAll("-", "−");

// The explorer of schedules.

function explorer(grid) {
  const form = find("#explorer form");
  const shape = { left: 44, right: 308, top: 12, bottom: 150 };
  const place = (share, from, to) => (from + share * (to - from)).toFixed(2);
  const across = (share) => place(share, shape.left, shape.right);
  const up = (share) => place(share, shape.bottom, shape.top);
  const logs = grid.families.flatMap((f) => f.schedules.flatMap((s) => s.bounds)).filter((b) => b > 0).map(Math.log10);
  const bottom = Math.floor(logs.reduce((a, b) => Math.min(a, b)));
  const top = Math.ceil(logs.reduce((a, b) => Math.max(a, b)));
  const etas = grid.eta.map((eta) => Math.log10(eta / grid.eta[0]) / Math.log10(grid.eta.at(-1) / grid.eta[0]));
  const height = (b) => (Math.log10(b) - bottom) / (top - bottom);

  // Where each slider stands: an index, and the value at it.
  const at = (name) => Number(form.elements[name].value);
  const family = () => grid.families[at("family")];

  function schedule() {
    const index = family().parameters.reduce((sum, one, i) => sum * one.values.length + at(`parameter-${i}`), 0);
    return family().schedules[index];
  }

  function choose() {
    family().parameters.forEach((one, i) => {
      form.elements[`parameter-${i}`].max = one.values.length - 1;
      form.elements[`parameter-${i}`].value = one.begin;
    });
    all("[data-parameter]", form).forEach((label, i) => {
      label.hidden = i >= family().parameters.length;
      find("span", label).textContent = label.hidden ? "" : family().parameters[i].name;
    });
  }

  function values() {
    const chosen = { T: grid.T, eta: grid.eta, rho: grid.rho, gamma: grid.gamma };
    family().parameters.forEach((one, i) => { chosen[`parameter-${i}`] = one.values; });
    return chosen;
  }

  // The parts of the drawings.
  function draw(panel, name, d) { find(`#${panel} .${name}`).setAttribute("d", d); }

  function ticks(panel, horizontal, vertical) {
    const group = find(`#${panel} .ticks`);
    group.replaceChildren();
    const text = (x, y, anchor, words) => {
      const one = document.createElementNS(SVG, "text");
      Object.entries({ x, y, "text-anchor": anchor }).forEach(([key, value]) => one.setAttribute(key, value));
      one.textContent = words;
      group.append(one);
    };
    horizontal.forEach(([share, words]) => text(across(share), shape.bottom + 15, "middle", words));
    vertical.forEach(([share, words]) => text(shape.left - 6, Number(up(share)) + 4, "end", words));
  }

  const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${across(x)} ${up(y)}`).join("");

  // Levels as steps of equal width; `back` goes from right to left, so that both make the edge of an area.
  const stairs = (levels) => levels.flatMap((y, i) => [[i / levels.length, y], [(i + 1) / levels.length, y]]);

  function drawSchedule(run, T) {
    const [least, most = least] = run.p.map((levels) => levels.map((level) => level / 1000));
    draw("explorer-p", "curve", line([...stairs(least), ...stairs(most).reverse()]));
    const mean = run.mean / T;
    draw("explorer-p", "mean", line([[0, mean], [1, mean]]));
    ticks("explorer-p", [[0, "0"], [0.5, String(T / 2)], [1, String(T)]], [[0, "0"], [0.5, "0.5"], [1, "1"]]);
  }

  function drawLaw(run) {
    // A margin of a step at least; a law on one point is a bar.
    const margin = Math.max(1, Math.round(run.pmf.length / 10));
    const first = run.first - margin;
    const width = run.pmf.length + 2 * margin;
    const share = (k) => (k - first) / width;
    const bars = run.pmf.flatMap((level, i) =>
      [[share(run.first + i), level / 1100], [share(run.first + i + 1), level / 1100]]);
    const closed = (points) => line([[points[0][0], 0], ...points, [points.at(-1)[0], 0]]);
    draw("explorer-law", "curve", closed(bars));
    draw("explorer-law", "interval", closed([[share(run.low), 1], [share(run.high + 1), 1]]));
    const middle = share(run.mean + 0.5);
    draw("explorer-law", "mean", line([[middle, 0], [middle, 1]]));
    const low = [share(run.low + 0.5), String(run.low)];
    const high = [share(run.high + 0.5), String(run.high)];
    ticks("explorer-law", run.low === run.high ? [low] : [low, high], []);
  }

  function drawBound(bounds, own) {
    for (const [name, values] of Object.entries(bounds)) {
      draw("explorer-bound", name, line(values.map((b, i) => [etas[i], height(b)])));
    }
    const point = find("#explorer-bound circle");
    point.setAttribute("cx", across(etas[at("eta")]));
    point.setAttribute("cy", up(height(own)));
    const decades = Array.from({ length: top - bottom + 1 }, (_, i) => bottom + i);
    const powers = decades.map((k) => [(k - bottom) / (top - bottom), String(Number(`1e${k}`))]);
    const named = grid.eta.map((eta, i) => [etas[i], String(eta)]).filter((_, i) => i % 3 === 0);
    ticks("explorer-bound", named, powers);
  }

  function show() {
    for (const [name, options] of Object.entries(values())) {
      const slider = form.elements[name];
      const words = String(options[at(name)]);
      slider.setAttribute("aria-valuetext", words);
      find("output", slider.closest("label")).textContent = words;
    }
    const chosen = schedule();
    const T = grid.T[at("T")];
    const run = chosen.runs[at("T")];
    const [n, m, l] = [grid.eta.length, grid.rho.length, grid.gamma.length];
    const bounds = {
      curve: grid.eta.map((_, i) => chosen.bounds[((at("T") * n + i) * m + at("rho")) * l + at("gamma")]),
      SGD: grid.eta.map((_, i) => grid.references.SGD[at("T") * n + i]),
      SAM: grid.eta.map((_, i) => grid.references.SAM[(at("T") * n + i) * m + at("rho")]),
    };
    const says = {
      schedule: `${chosen.label}, T = ${T}, η = ${grid.eta[at("eta")]}, ρ = ${grid.rho[at("rho")]}, γ = ${grid.gamma[at("gamma")]}`,
      mean: digits(run.mean),
      interval: `[${run.low}, ${run.high}]`,
      sgd: digits(run.sgd),
      sam: digits(run.sam),
      bound: digits(bounds.curve[at("eta")]),
      "bound-sgd": digits(bounds.SGD[at("eta")]),
      "bound-sam": digits(bounds.SAM[at("eta")]),
    };
    for (const [name, words] of Object.entries(says)) {
      const place = find(`#explorer-${name}-says`);
      if (place.textContent !== words) place.textContent = words;  // only what changes is read out
    }
    drawSchedule(run, T);
    drawLaw(run);
    drawBound(bounds, bounds.curve[at("eta")]);
    find("#explorer").style.setProperty("--curve", family().colour);
  }

  form.addEventListener("input", (event) => {
    if (event.target.name === "family") choose();
    show();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.reset();
  choose();
  show();
  find("#explorer-parts").hidden = false;
  find("#explorer .scriptless").hidden = true;
}

// Names and numbers in the figures.

function figures() {
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  let lit = null;  // the drawing in which a series is shown

  const around = [[1, 0], [-1, 0], [0, 1], [0, -1], [0.7, 0.7], [-0.7, 0.7], [0.7, -0.7], [-0.7, -0.7]];
  const near = [[0, 0], ...[2, 4, 7, 10].flatMap((r) => around.map(([right, down]) => [r * right, r * down]))];

  // What is at a place of the screen or close to it: a curve or a point rather than a band or a name.
  function under(drawing, x, y, most) {
    const found = near.filter((way) => Math.hypot(...way) <= most)
      .map(([right, down]) => document.elementFromPoint(x + right, y + down)?.closest("[data-series]"))
      .filter((mark) => mark && drawing.contains(mark));
    return found.find((mark) => mark.dataset.axes) ?? found[0];
  }

  // The points of a curve, or the marks of a row of them, as they stand in the drawing.
  function points(mark) {
    const marks = all("use", mark).filter((use) => !use.closest("defs"));
    if (marks.length) return marks.map((use) => [Number(use.getAttribute("x")), Number(use.getAttribute("y"))]);
    const path = all("path", mark).find((one) => !one.closest("defs"));
    const flat = (path?.getAttribute("d").match(/-?[\d.]+/g) ?? []).map(Number);
    return flat.flatMap((x, i) => (i % 2 ? [] : [[x, flat[i + 1]]]));
  }

  function number(axis, place) {
    const share = (place - axis.places[0]) / (axis.places[1] - axis.places[0]);
    const [begin, end] = axis.ends;
    const value = axis.log ? begin * (end / begin) ** share : begin + share * (end - begin);
    const fine = Math.abs(value) < Math.abs(end - begin) / 2000 && !axis.log ? 0 : value;
    return digits(Number(Math.abs(fine) < 1000 ? fine.toPrecision(3) : fine.toFixed(0)));
  }

  function told(drawing, mark, x, y) {
    const lines = [];
    const axes = mark.dataset.axes && JSON.parse(drawing.dataset.axes)[mark.dataset.axes];
    if (axes) {
      if (axes.title && axes.title !== mark.dataset.label) lines.push(axes.title);
      const to = drawing.getScreenCTM().inverse();
      const here = new DOMPoint(x, y).matrixTransform(to);
      const far = ([a, b]) => Math.hypot(a - here.x, b - here.y);
      const nearest = points(mark).reduce((a, b) => (far(b) < far(a) ? b : a), [Infinity, Infinity]);
      if (Number.isFinite(nearest[0])) {
        ["x", "y"].forEach((name, i) => {
          if (axes[name]) lines.push(`${axes[name].name}: ${number(axes[name], nearest[i])}`);
        });
      }
    }
    return lines;
  }

  function light(drawing, series) {
    if (lit && lit !== drawing) dark();
    lit = drawing;
    drawing.classList.add("dimmed");
    all("[data-series]", drawing).forEach((one) => one.classList.toggle("lit", one.dataset.series === series));
  }

  function dark() {
    lit?.classList.remove("dimmed");
    lit = null;
    tip.hidden = true;
  }

  function say(name, lines, x, y) {
    const strong = document.createElement("strong");
    strong.textContent = name;
    tip.replaceChildren(strong, ...lines.map((words) => {
      const line = document.createElement("span");
      line.textContent = words;
      return line;
    }));
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const room = document.documentElement.clientWidth;
    tip.style.left = `${Math.max(4, Math.min(x + 12, room - width - 4))}px`;
    tip.style.top = `${y - height - 12 > 0 ? y - height - 12 : y + 18}px`;
  }

  for (const drawing of all("figure svg[data-axes]")) {
    all("title", drawing).forEach((title) => title.remove());  // what browsers show without a script
    const names = [...new Set(all("[data-series]", drawing).map((one) => one.dataset.series))];
    if (!names.length) continue;
    const point = (event) => {
      const mark = under(drawing, event.clientX, event.clientY, event.pointerType === "touch" ? 10 : 5);
      if (!mark) return dark();
      light(drawing, mark.dataset.series);
      const lines = told(drawing, mark, event.clientX, event.clientY);
      return say(mark.dataset.label ?? mark.dataset.series, lines, event.clientX, event.clientY);
    };
    drawing.addEventListener("pointermove", point);
    drawing.addEventListener("pointerdown", point);
    drawing.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") dark(); });
    // One stop of the keyboard per figure; its arrow keys go from series to series.
    const box = drawing.parentElement;
    let current = -1;
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `${drawing.id.replace(/-\w+$/, "").replaceAll("_", " ")}: arrow keys name its parts`);
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") dark();
      if (!step) return;
      event.preventDefault();
      current = (current + step + names.length + (current < 0 && step < 0)) % names.length;
      light(drawing, names[current]);
      const place = find("[data-label].lit", drawing).getBoundingClientRect();
      say(names[current], [], place.x + place.width / 2, place.y);
    });
    box.addEventListener("blur", dark);
  }
  addEventListener("scroll", dark, { passive: true });
}

// The drawings as files.

function downloads() {
  for (const button of all("button[data-drawing]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const copy = find(`#${button.dataset.drawing}`).cloneNode(true);
      copy.removeAttribute("class");
      const link = document.createElement("a");
      link.href = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
      link.download = `${button.dataset.drawing.replace("-wide", "")}.svg`;
      link.click();
    });
  }
}

explorer(JSON.parse(find("#grid").textContent));
figures();
downloads();
addEventListener("beforeprint", () => all("details").forEach((one) => {
  if (!one.classList.contains("table")) one.open = true;
}));
