// What all figures share: the data that the page carries, colours, units, axes, and how a figure is drawn.
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);

// Okabe and Ito's colours, which the colour-blind can tell apart; dashes and markers say the same without colour.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D", "#8C6D1F"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const STROKES = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "11 4", longdashdot: "11 3 2 3" };
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star"];
const KINDS = {
  download: { name: "downloads", colour: "#56B4E9", pattern: "" },
  compute: { name: "computes", colour: "#0B4F79", pattern: "" },
  upload: { name: "uploads", colour: "#E69F00", pattern: "/" },
  wait: { name: "waits", colour: "#DDE1E6", pattern: "" },
};
const LOST = {
  out_of_memory: { name: "out of memory", colour: "#D55E00", pattern: "" },
  dropped: { name: "dropped", colour: "#4D4D4D", pattern: "/" },
  late: { name: "late", colour: "#E69F00", pattern: "\\" },
  unavailable: { name: "unavailable", colour: "#BBBBBB", pattern: "." },
};
const SCALES = {
  s: [["s", 1, 300], ["min", 60, 10800], ["h", 3600, 259200], ["d", 86400, Infinity]],
  B: [["B", 1, 1e3], ["kB", 1e3, 1e6], ["MB", 1e6, 1e9], ["GB", 1e9, 1e12], ["TB", 1e12, Infinity]],
  J: [["J", 1, 1e3], ["kJ", 1e3, 1e6], ["MJ", 1e6, 1e9], ["GJ", 1e9, Infinity]],
  1: [["", 1, Infinity]],
};
const AXES = {
  time_s: ["emulated time", "s"],
  n_rounds: ["rounds done", "1"],
  total_bytes: ["traffic, down and up", "B"],
  energy_j: ["energy of all devices", "J"],
};
const CONFIG = {
  responsive: true,
  displaylogo: false,
  // Nothing leaves the page: the library's button that uploads a figure is not there.
  modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"],
  plotlyServerURL: "",
  toImageButtonOptions: { format: "svg" },
};

const ink = "#1d2733";
const grid = "#E6E9ED";

function style(group) {
  return {
    colour: COLOURS[group % COLOURS.length],
    dash: DASHES[group % DASHES.length],
    symbol: SYMBOLS[group % SYMBOLS.length],
  };
}

function scaled(unit, largest) {
  const [name, factor] = SCALES[unit].find((step) => largest < step[2]) || SCALES[unit].at(-1);
  return { name, factor };
}

function quantity(value, unit, digits = 3) {
  const { name, factor } = scaled(unit, Math.abs(value));
  return `${Number((value / factor).toPrecision(digits))} ${name}`.trim();
}

function titled(text, unit) {
  return unit ? `${text} (${unit})` : text;
}

function unpack(array) {
  const bytes = Uint8Array.from(atob(array.base64), (character) => character.charCodeAt(0));
  const kinds = { u1: Uint8Array, u2: Uint16Array, i4: Int32Array, f4: Float32Array };
  return new kinds[array.kind](bytes.buffer);
}

function axis(title, extra = {}) {
  return {
    title: { text: title, standoff: 10, font: { size: 12.5 } },
    automargin: true,
    gridcolor: grid,
    zerolinecolor: grid,
    linecolor: "#9AA4AF",
    ticks: "outside",
    ticklen: 4,
    tickcolor: "#9AA4AF",
    ...extra,
  };
}

// Rounds are counted: an axis with few of them has a tick for each, and none between.
function wholeNumbers(last) {
  return last <= 12 ? { dtick: 1 } : { tickformat: "d" };
}

function layout(extra) {
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "#fff",
    margin: { l: 56, r: 16, t: 12, b: 48 },
    hoverlabel: { bgcolor: "#fff", bordercolor: "#9AA4AF", font: { size: 12, color: ink }, align: "left" },
    modebar: { bgcolor: "rgba(255,255,255,0.8)", color: "#7B8794", activecolor: ink },
    showlegend: false,
    ...extra,
  };
}

function below(extra = {}) {
  return { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", traceorder: "normal", ...extra };
}

async function draw(element, traces, shape) {
  await Plotly.react(element, traces, layout(shape), CONFIG);
  // With a viewBox and the ratio of its sides, a drawing can be scaled to the width of a sheet of paper.
  for (const svg of element.querySelectorAll("svg.main-svg")) {
    svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
  }
  const container = element.querySelector(".svg-container");
  container.style.setProperty("--ratio", `${container.clientWidth} / ${container.clientHeight}`);
  element.dataset.drawn = "yes";
}

function escaped(text) {
  return text.replace(/[&<>]/g, (character) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[character]);
}

// A label in lines of some characters, broken after commas.
function wrapped(label, most) {
  const lines = [""];
  for (const part of label.split(/(?<=,) ?/)) {
    if (lines.at(-1) && lines.at(-1).length + part.length >= most) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) ? " " : "") + part;
  }
  return lines.map(escaped);
}
