"use strict";
// Everything that came from a run goes through textContent or a canvas: it is shown, never interpreted.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const LOWER_IS_BETTER = !["quality", "val/pair_accuracy"].includes(data.metric);
const runs = data.rows.map((row, place) => ({
  row, place, columns: data.curves[place], failure: data.failures[place], shown: true, kept: true, colour: "#888", line: null,
}));
const settings = { sort: null, descending: false, ranges: new Map(), under: null };

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const named = (key) => data.words[key] ?? key;
const label = (value) => (value === null || value === undefined ? "" : typeof value === "number" ? String(+value.toPrecision(5)) : String(value));
// A figure with its interval, where it has one.
function shownOf(row, key) {
  const all = [row[key], row[`${key}_low`], row[`${key}_high`]];
  if (!all.every(finite)) return label(row[key]);
  const [value, low, high] = all.map((number) => number.toPrecision(3));
  return `${value} (${low} to ${high})`;
}
const figures = data.figures.filter((key) => !/_(low|high)$/.test(key));
const visible = () => runs.filter((run) => run.shown && run.kept);
const finite = (value) => typeof value === "number" && Number.isFinite(value);
const goodness = (run) => {
  const value = run.row[data.metric];
  return finite(value) ? (LOWER_IS_BETTER ? -value : value) : -Infinity;
};
const best = runs.filter((run) => goodness(run) > -Infinity).sort((a, b) => goodness(b) - goodness(a));

// --- colours -------------------------------------------------------------------------------------------------------------
const hue = (place, count) => `hsl(${(place * 360 * (count > 12 ? 0.618034 : 1 / Math.max(1, count)) + 20) % 360} 62% 45%)`;

const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [14, 4], [4, 2, 1, 2]]; // runs of one colour are told apart by these

function paint(key) {
  const values = key ? [...new Set(runs.map((run) => label(run.row[key])))] : runs.map((run) => run.row.run);
  const seen = new Map();
  for (const run of runs) {
    const place = key ? values.indexOf(label(run.row[key])) : run.place;
    const before = seen.get(place) ?? 0;
    seen.set(place, before + 1);
    run.colour = hue(place, values.length);
    run.dash = DASHES[before % DASHES.length];
    run.swatch.setAttribute("stroke", run.colour);
    run.swatch.setAttribute("stroke-dasharray", run.dash.join(" "));
  }
}

// A piece of the run's line: its colour and its dashes.
function swatch() {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [name, value] of Object.entries({ width: 30, height: 8, class: "swatch" })) drawing.setAttribute(name, value);
  for (const [name, value] of Object.entries({ x1: 0, x2: 30, y1: 4, y2: 4, "stroke-width": 3 })) line.setAttribute(name, value);
  drawing.append(line);
  return [drawing, line];
}

// --- the table of runs ---------------------------------------------------------------------------------------------------
const columns = ["run", "state", ...data.varied, ...figures];

function makeTable() {
  const head = element("tr", {}, element("th"));
  for (const key of columns) {
    const button = element("button", { textContent: named(key), title: key, onclick: () => sortBy(key) });
    head.append(element("th", { className: runs.some((run) => finite(run.row[key])) ? "number" : "" }, button));
  }
  if (data.failures.some(Boolean)) head.append(element("th", { textContent: "failed, because" }));
  byId("runs").tHead.append(head);
  for (const run of runs) {
    run.box = element("input", { type: "checkbox", checked: true, ariaLabel: `show ${run.row.run}` });
    run.box.onchange = () => show(run, run.box.checked);
    const [drawing, line] = swatch();
    run.swatch = line;
    run.line = element("tr", {}, element("td", {}, run.box));
    for (const key of columns) {
      const cell = element("td", { className: finite(run.row[key]) ? "number" : "" });
      if (key === "run") cell.append(drawing);
      else cell.dataset.of = named(key);
      cell.append(shownOf(run.row, key));
      run.line.append(cell);
    }
    const why = run.failure ?? "";
    if (data.failures.some(Boolean)) run.line.append(element("td", { className: why ? "why" : "why none", textContent: why, title: why }));
    if (run === best[0]) run.line.classList.add("first");
    run.line.onmouseenter = () => under(run);
    run.line.onmouseleave = () => under(null);
    byId("runs").tBodies[0].append(run.line);
  }
}

function sortBy(key) {
  settings.descending = settings.sort === key ? !settings.descending : false;
  settings.sort = key;
  const sign = settings.descending ? -1 : 1;
  const compare = (a, b) => {
    const [x, y] = [a.row[key], b.row[key]];
    if (finite(x) && finite(y)) return sign * (x - y);
    if (finite(x) !== finite(y)) return finite(x) ? -1 : 1; // what has no number comes last, whichever way
    return sign * label(x).localeCompare(label(y));
  };
  const sorted = [...runs].sort(compare);
  byId("runs").tBodies[0].append(...sorted.map((run) => run.line));
  [...byId("runs").tHead.rows[0].cells].forEach((cell) => cell.removeAttribute("aria-sort"));
  byId("runs").tHead.rows[0].cells[columns.indexOf(key) + 1].setAttribute("aria-sort", settings.descending ? "descending" : "ascending");
}

function show(run, on) {
  run.shown = run.box.checked = on;
  refresh();
}

function showThose(wanted) {
  for (const run of runs) run.shown = run.box.checked = wanted(run);
  refresh();
}

function find() {
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const run of runs) {
    const text = columns.map((key) => label(run.row[key])).join(" ").toLowerCase();
    run.line.hidden = !words.every((word) => text.includes(word));
  }
  showThose((run) => !run.line.hidden);
}

function under(run) {
  if (settings.under === run) return;
  settings.under?.line.classList.remove("under");
  settings.under = run;
  run?.line.classList.add("under");
  byId("hint").textContent = run ? [run.row.run, ...data.varied.map((key) => `${key}=${label(run.row[key])}`)].join("  ") : "";
  drawSoon();
}

// --- drawing -------------------------------------------------------------------------------------------------------------
const INK = "#222", SOFT = "#888", GRID = "#e4e4e4", PAD = { left: 62, right: 12, top: 10, bottom: 26 };

function fit(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "12px system-ui, sans-serif";
  return { context, width, height };
}

function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(+value.toPrecision(12));
  return found;
}

function decades(low, high) {
  const found = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++)
    for (const factor of high - low > 2 ? [1] : [1, 2, 5]) {
      const at = power + Math.log10(factor);
      if (at >= low && at <= high) found.push(at);
    }
  return found;
}

class Chart {
  constructor(metric) {
    this.metric = metric;
    this.canvas = element("canvas", { role: "img", ariaLabel: `${named(metric)} of all runs shown` });
    this.canvas.onmousemove = (event) => under(this.nearest(event));
    this.canvas.onmouseleave = () => under(null);
    byId("charts").append(element("figure", {}, element("figcaption", { textContent: named(metric), title: metric }), this.canvas));
    this.cache = new Map();
  }

  // Points of a run as [xs, ys], smoothed; made once per setting.
  points(run, axis, smooth, log) {
    const key = `${run.place} ${axis} ${smooth} ${log}`;
    if (this.cache.has(key)) return this.cache.get(key);
    const xs = [], ys = [], at = run.columns[axis] ?? [], values = run.columns[this.metric] ?? [];
    let mean = null, weight = 0;
    for (let i = 0; i < values.length; i++) {
      if (values[i] === null || at[i] === null || at[i] === undefined || (log && values[i] <= 0)) continue;
      mean = smooth * (mean ?? 0) + (1 - smooth) * values[i];
      weight = smooth * weight + (1 - smooth);
      xs.push(at[i]);
      ys.push(log ? Math.log10(mean / weight) : mean / weight);
    }
    this.cache.set(key, [xs, ys]);
    return [xs, ys];
  }

  draw({ axis, smooth, log }) {
    const { context, width, height } = fit(this.canvas);
    let drawn = visible().map((run) => [run, ...this.points(run, axis, this.metric === "lr" ? 0 : smooth, log)]).filter(([, xs]) => xs.length);
    // One value per run is no curve: the runs stand side by side, the lowest first.
    const single = drawn.every(([, xs]) => xs.length === 1);
    if (single) drawn = drawn.sort((a, b) => a[2][0] - b[2][0]).map(([run, , ys], place) => [run, [place], ys]);
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [, xs, ys] of drawn)
      for (let i = 0; i < xs.length; i++) {
        if (xs[i] < left) left = xs[i];
        if (xs[i] > right) right = xs[i];
        if (ys[i] < low) low = ys[i];
        if (ys[i] > high) high = ys[i];
      }
    if (!drawn.length) return;
    if (low === high) [low, high] = [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
    if (single) [left, right] = [-0.5, drawn.length - 0.5];
    if (left === right) right = left + 1;
    const x = (value) => PAD.left + ((value - left) / (right - left)) * (width - PAD.left - PAD.right);
    const y = (value) => height - PAD.bottom - ((value - low) / (high - low)) * (height - PAD.top - PAD.bottom);
    this.scale = { x, y, drawn };
    context.textAlign = "right";
    for (const tick of log ? decades(low, high) : ticks(low, high, 5)) {
      context.fillStyle = GRID;
      context.fillRect(PAD.left, y(tick), width - PAD.left - PAD.right, 1);
      context.fillStyle = SOFT;
      context.fillText(label(log ? 10 ** tick : tick), PAD.left - 6, y(tick) + 4);
    }
    context.textAlign = "center";
    const room = (width - PAD.left - PAD.right) / drawn.length;
    if (!single) for (const tick of ticks(left, right, 6)) context.fillText(label(tick), x(tick), height - 8);
    else if (room > 60) drawn.forEach(([run], place) => context.fillText(run.row.run, x(place), height - 8, room - 4));
    const order = [...drawn.filter(([run]) => run !== settings.under), ...drawn.filter(([run]) => run === settings.under)];
    for (const [run, xs, ys] of order) {
      context.strokeStyle = run.colour;
      context.globalAlpha = settings.under && run !== settings.under ? 0.25 : drawn.length > 40 ? 0.6 : 0.9;
      context.lineWidth = run === settings.under ? 3 : 1.5;
      context.setLineDash(run.dash);
      context.beginPath();
      for (let i = 0; i < xs.length; i++) context.lineTo(x(xs[i]), y(ys[i]));
      context.stroke();
      if (xs.length === 1) {
        context.fillStyle = run.colour;
        context.fillRect(x(xs[0]) - 4, y(ys[0]) - 4, 8, 8);
      }
    }
    context.globalAlpha = 1;
    context.setLineDash([]);
  }

  nearest(event) {
    if (!this.scale) return null;
    const box = this.canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let [found, least] = [null, 400]; // no farther than 20 pixels
    for (const [run, xs, ys] of this.scale.drawn)
      for (let i = 0; i < xs.length; i++) {
        const distance = (this.scale.x(xs[i]) - px) ** 2 + (this.scale.y(ys[i]) - py) ** 2;
        if (distance < least) [found, least] = [run, distance];
      }
    return found;
  }
}

// --- parallel coordinates ------------------------------------------------------------------------------------------------
const axes = [...data.varied, ...figures].filter((key) => runs.some((run) => label(run.row[key]) !== "")).map((key) => {
  const values = runs.map((run) => run.row[key]).filter((value) => label(value) !== "");
  if (values.every(finite)) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const log = low > 0 && high / low > 20;
    const scaled = (value) => (log ? Math.log(value / low) / Math.log(high / low) : high > low ? (value - low) / (high - low) : 0.5);
    return { key, place: (value) => (finite(value) ? scaled(value) : null), ends: [label(low), label(high)] };
  }
  const names = [...new Set(values.map(label))].sort();
  const place = (value) => (label(value) === "" ? null : names.length > 1 ? names.indexOf(label(value)) / (names.length - 1) : 0.5);
  return { key, place, names };
});
// Axes stand side by side; on a narrow screen they lie one below the other.
const BAND = { begin: 40, end: 16, side: 90, above: 46 };
const UPRIGHT_PX = 110, LYING_PX = 62; // room for an axis

function coordinates(width, height) {
  const lying = width < UPRIGHT_PX * axes.length;
  const across = (place) => (lying ? BAND.above + place * LYING_PX : axes.length > 1 ? BAND.side + (place / (axes.length - 1)) * (width - 2 * BAND.side) : width / 2);
  const [from, to] = lying ? [BAND.end, width - BAND.end] : [height - BAND.end, BAND.begin];
  const along = (share) => from + share * (to - from);
  return { lying, across, at: (place, share) => (lying ? [along(share), across(place)] : [across(place), along(share)]), share: (x, y) => ((lying ? x : y) - from) / (to - from) };
}

function drawCoordinates() {
  const canvas = byId("coordinates");
  canvas.style.height = canvas.clientWidth < UPRIGHT_PX * axes.length ? `${axes.length * LYING_PX + 10}px` : "";
  const { context, width, height } = fit(canvas);
  const { lying, at } = coordinates(width, height);
  for (const run of runs) {
    if (!run.shown) continue;
    context.strokeStyle = run.kept ? run.colour : "#ddd";
    context.globalAlpha = settings.under && run !== settings.under ? 0.15 : run.kept ? 0.7 : 0.4;
    context.lineWidth = run === settings.under ? 3 : 1.2;
    context.beginPath();
    axes.forEach((axis, place) => {
      const share = axis.place(run.row[axis.key]);
      if (share !== null) context.lineTo(...at(place, share));
    });
    context.stroke();
  }
  context.globalAlpha = 1;
  axes.forEach((axis, place) => {
    const [[x0, y0], [x1, y1]] = [at(place, 0), at(place, 1)];
    context.fillStyle = SOFT;
    context.fillRect(x0, y1, Math.max(1, x1 - x0), Math.max(1, y0 - y1));
    context.fillStyle = INK;
    context.textAlign = lying ? "left" : "center";
    if (lying) context.fillText(named(axis.key), x0, y0 - 22);
    else context.fillText(named(axis.key), x0, 14, width / axes.length - 6);
    context.fillStyle = SOFT;
    const write = (text, share) => {
      const [x, y] = at(place, share);
      const last = place === axes.length - 1;
      context.textAlign = lying ? (share > 0.9 ? "right" : share < 0.1 ? "left" : "center") : last ? "right" : "left";
      const where = lying ? [x, y - 6] : [x + (last ? -6 : 6), y + (axis.names ? 4 : share ? -4 : 12)];
      Object.assign(context, { strokeStyle: "white", lineWidth: 4, lineJoin: "round" }); // readable upon lines
      context.strokeText(text, ...where);
      context.fillText(text, ...where);
    };
    if (axis.names) axis.names.slice(0, 40).forEach((name) => write(name, axis.place(name)));
    else axis.ends.forEach((end, high) => write(end, high));
    const range = settings.ranges.get(axis.key);
    if (range) {
      const [[left, bottom], [right, top]] = [at(place, Math.min(...range)), at(place, Math.max(...range))];
      context.fillStyle = "rgba(181, 101, 29, .25)";
      if (lying) context.fillRect(left, top - 8, right - left, 17);
      else context.fillRect(left - 8, top, 17, bottom - top);
    }
  });
}

function dragAxes() {
  const canvas = byId("coordinates");
  let axis = null, from = 0;
  const placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const { lying, across, share } = coordinates(box.width, box.height);
    return { share: share(x, y), axis: axes.find((_, place) => Math.abs(across(place) - (lying ? y : x)) < 30) ?? null };
  };
  canvas.onpointerdown = (event) => {
    ({ axis, share: from } = placeOf(event));
    if (axis) {
      settings.ranges.delete(axis.key);
      canvas.setPointerCapture(event.pointerId);
      keep();
    }
  };
  canvas.onpointermove = (event) => {
    const { share } = placeOf(event);
    if (!axis || Math.abs(share - from) < 0.02) return;
    settings.ranges.set(axis.key, [from, share]);
    keep();
  };
  canvas.onpointerup = () => (axis = null);
}

function keep() {
  const inside = (run, axis, [one, other]) => {
    const share = axis.place(run.row[axis.key]);
    return share !== null && share >= Math.min(one, other) && share <= Math.max(one, other);
  };
  for (const run of runs) run.kept = axes.every((axis) => !settings.ranges.has(axis.key) || inside(run, axis, settings.ranges.get(axis.key)));
  refresh();
}

// --- the best of each, stories, and the rest -----------------------------------------------------------------------------
function makeBest() {
  byId("best-section").hidden = !data.best.length;
  if (!data.best.length) return;
  const together = data.best.some((row) => row.with);
  const head = ["", ...(together ? ["with"] : []), `${named(data.metric)} (mean)`, "95 % over seeds", "runs"];
  byId("best").append(element("thead", {}, element("tr", {}, ...head.map((textContent, place) => element("th", { textContent, className: place > +together ? "number" : "" })))));
  const body = element("tbody");
  for (const row of data.best) {
    const interval = row.low === null ? "one seed" : `${label(row.low)} to ${label(row.high)}`;
    const cells = [[row.of, ""], ...(together ? [[row.with, ""]] : []), [label(row.mean), "number"], [interval, "number"], [label(row.runs), "number"]];
    body.append(element("tr", {}, ...cells.map(([textContent, className], place) => {
      const cell = element("td", { textContent, className });
      cell.dataset.of = head[place];
      return cell;
    })));
  }
  byId("best").append(body);
}

const MOST_STORIES = 12;
function tellStories() {
  const prompt = data.samples[byId("prompt").value];
  if (!prompt) return;
  const wanted = prompt.stories.filter((story) => runs[story.run].shown && runs[story.run].kept);
  const rank = new Map(best.map((run, place) => [run.place, place]));
  wanted.sort((a, b) => (rank.get(a.run) ?? Infinity) - (rank.get(b.run) ?? Infinity));
  byId("stories").replaceChildren(...wanted.slice(0, MOST_STORIES).map((story) => {
    const run = runs[story.run];
    const told = data.varied.map((key) => `${key}=${label(run.row[key])}`).join(" ") || run.row.run;
    const made = element("article", {}, element("h3", { textContent: `${told} (step ${story.step})` }), element("p", { textContent: story.text }));
    made.style.borderColor = run.colour;
    return made;
  }), ...(wanted.length > MOST_STORIES ? [element("p", { textContent: `and ${wanted.length - MOST_STORIES} more: hide some runs` })] : []));
}

const charts = [];
let waiting = false;
function drawSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const how = { axis: byId("axis").value, smooth: +byId("smooth").value, log: byId("log").checked };
    for (const chart of charts) chart.draw(how);
    drawCoordinates();
  });
}

function refresh() {
  for (const run of runs) run.line.classList.toggle("hidden", !(run.shown && run.kept));
  const states = Object.entries(Object.groupBy ? Object.groupBy(runs, (run) => run.row.state) : {});
  const counts = states.map(([state, those]) => `${those.length} ${state}`).join(", ");
  byId("summary").textContent = `${runs.length} runs${counts ? `: ${counts}` : ""}; ${visible().length} shown`;
  tellStories();
  drawSoon();
}

function start() {
  makeTable();
  makeBest();
  if (best.length) byId("bold").textContent = `Bold: the best finished run, by ${named(data.metric)}: ${LOWER_IS_BETTER ? "less" : "more"} is better.`;
  const logged = [...new Set(runs.flatMap((run) => Object.keys(run.columns)))];
  const over = ["step", "tokens", "seconds"].filter((name) => logged.includes(name));
  byId("axis").append(...over.map((name) => element("option", { textContent: name })));
  for (const metric of logged.filter((name) => !over.includes(name))) charts.push(new Chart(metric));
  byId("colour").append(element("option", { textContent: "run", value: "" }), ...data.varied.map((key) => element("option", { textContent: key, value: key })));
  byId("prompt").append(...data.samples.map((sample, value) => element("option", { value, textContent: sample.prompt })));
  byId("samples-section").hidden = !data.samples.length;
  byId("coordinates-section").hidden = axes.length < 2;
  for (const id of ["axis", "smooth", "log"]) byId(id).oninput = drawSoon;
  byId("colour").onchange = () => (paint(byId("colour").value), refresh());
  byId("prompt").onchange = tellStories;
  byId("find").oninput = find;
  byId("all").onclick = () => showThose(() => true);
  byId("none").onclick = () => showThose(() => false);
  byId("top").hidden = best.length <= 10;
  byId("top").onclick = () => showThose((run) => best.slice(0, 10).includes(run));
  window.onresize = drawSoon;
  dragAxes();
  byId("colour").value = data.varied.find((key) => new Set(runs.map((run) => label(run.row[key]))).size <= 8) ?? "";
  paint(byId("colour").value);
  refresh();
  document.documentElement.dataset.ready = performance.now();
}

start();
