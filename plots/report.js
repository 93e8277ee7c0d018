"use strict";
// Numbers, "−1.34 ± 0.05 †" and "1,200" among them, are sorted by value; other texts follow in alphabetical order
const value = (text) => {
  const found = text.replace(/\u2212/g, "-").replace(/,/g, "").match(/^\s*\[?(-?\d+(\.\d+)?(e-?\d+)?)/i);
  return found ? parseFloat(found[1]) : null;
};

const compare = (a, b) => {
  const [x, y] = [value(a), value(b)];
  if (x !== null && y !== null && x !== y) return x - y;
  if ((x === null) !== (y === null)) return x === null ? 1 : -1;
  return a.localeCompare(b, undefined, { numeric: true });
};

const lines = (body) => [...body.rows].filter((row) => !row.classList.contains("detail"));

const sort = (heading) => {
  const table = heading.closest("table"), body = table.tBodies[0];
  const up = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const k = heading.cellIndex, words = !heading.classList.contains("number");
  const order = lines(body).sort((a, b) => {
    const [x, y] = [a.cells[k].textContent, b.cells[k].textContent];
    return (words ? x.localeCompare(y, undefined, { numeric: true }) : compare(x, y)) * (up ? 1 : -1);
  });
  for (const row of body.querySelectorAll(".detail")) row.remove();
  for (const button of body.querySelectorAll(".open")) collapse(button);
  body.append(...order);
};

const filter = (input) => {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const body = input.closest(".grid").querySelector("tbody");
  for (const row of lines(body)) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    const next = row.nextElementSibling;
    if (next && next.classList.contains("detail")) next.hidden = row.hidden;
  }
};

const collapse = (button) => {
  button.textContent = "show";
  button.setAttribute("aria-expanded", "false");
};

const SVG = "http://www.w3.org/2000/svg";
const svgElement = (name, attributes, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, x] of Object.entries(attributes)) element.setAttribute(key, x);
  if (text !== undefined) element.textContent = text;
  return element;
};

const short = (x) => String(parseFloat(x.toPrecision(3)));

const chart = (name, { steps, seeds }, color) => {
  const box = document.createElement("div"), title = document.createElement("p");
  const [left, right, top, bottom] = [44, 244, 8, 110];
  const all = Object.values(seeds).flat().filter((x) => x !== null);
  box.className = "chart";
  title.textContent = name;
  box.append(title);
  if (!all.length) return box;
  const low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
  const last = steps[steps.length - 1] || 1, range = high - low || 1;
  const x = (step) => left + ((right - left) * step) / last, y = (v) => bottom - ((bottom - top) * (v - low)) / range;
  const svg = svgElement("svg", { viewBox: "0 0 250 128", role: "img", "aria-label": name });
  svg.append(svgElement("path", { d: `M${left} ${top}V${bottom}H${right}`, fill: "none", stroke: "#888" }));
  const mark = (text, at) => svg.append(svgElement("text", { "font-size": 9, fill: "#444", ...at }, text));
  mark(short(high), { x: left - 4, y: top + 6, "text-anchor": "end" });
  if (high !== low) mark(short(low), { x: left - 4, y: bottom, "text-anchor": "end" });
  mark(`${last} updates`, { x: right, y: bottom + 12, "text-anchor": "end" });
  for (const [seed, values] of Object.entries(seeds)) {
    const points = values.map((v, k) => (v === null ? null : `${x(steps[k]).toFixed(1)},${y(v).toFixed(1)}`)).filter(Boolean);
    const line = svgElement("polyline", { points: points.join(" "), fill: "none", stroke: color, "stroke-width": 1.1, opacity: 0.65 });
    line.append(svgElement("title", {}, `seed ${seed}`));
    svg.append(line);
  }
  box.append(svg);
  return box;
};

const data = JSON.parse(document.getElementById("data").textContent);

const toggle = (button) => {
  const row = button.closest("tr");
  if (button.getAttribute("aria-expanded") === "true") {
    row.nextElementSibling.remove();
    collapse(button);
    return;
  }
  const result = data.results[Number(button.dataset.result)];
  const detail = document.createElement("tr"), cell = document.createElement("td");
  const charts = document.createElement("div"), about = document.createElement("pre");
  detail.className = "detail";
  cell.colSpan = row.cells.length;
  charts.className = "charts";
  charts.append(...Object.entries(result.metrics).map(([name, metric]) => chart(name, metric, data.colors[result.algo])));
  about.textContent = result.about;
  cell.append(charts, about);
  detail.append(cell);
  row.after(detail);
  button.textContent = "hide";
  button.setAttribute("aria-expanded", "true");
};

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  if (button.classList.contains("open")) toggle(button);
  else if (button.closest("thead")) sort(button.closest("th"));
});
document.addEventListener("input", ({ target }) => target.type === "search" && filter(target));
