// Draws the figures of the page from the data that the page carries. Every figure is an element with data-figure.
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
  n_rounds: ["rounds", "1"],
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

// ---- curves over time, rounds, bytes and energy

function bandTraces(index, band, xFactor, yFactor, texts) {
  const group = DATA.groups[index];
  const { colour, dash, symbol } = style(index);
  const x = band.x.map((value) => value / xFactor);
  const scale = (values) => values.map((value) => value / yFactor);
  const every = Math.max(1, Math.round(x.length / 8));
  const traces = [];
  if (band.n > 1) {
    const flat = { type: "scatter", mode: "lines", x, line: { width: 0 }, hoverinfo: "skip", meta: { group: index } };
    traces.push({ ...flat, y: scale(band.low) });
    traces.push({ ...flat, y: scale(band.high), fill: "tonexty", fillcolor: colour + "26" });
  }
  traces.push({
    type: "scatter",
    mode: "lines+markers",
    x,
    y: scale(band.mean),
    name: group.label,
    line: { color: colour, width: 2, dash },
    marker: { symbol, color: colour, size: x.map((_, i) => (i % every === Math.floor(every / 2) ? 8 : 0)) },
    customdata: x.map((_, i) =>
      band.n > 1 ? ` (${texts.value(band.low[i])} to ${texts.value(band.high[i])})` : ""
    ),
    hovertemplate: `%{y:.3~f}${texts.unit}%{customdata}<extra>${escaped(group.label)}</extra>`,
    meta: { group: index },
  });
  return traces;
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

function drawAccuracy(element) {
  const over = element.dataset.over;
  const [title, unit] = AXES[over];
  const bands = DATA.groups.map((group) => group.accuracy[over]);
  const ends = DATA.groups.flatMap((group) => group.lines.map((line) => line.accuracy[over].x.at(-1) || 0));
  const { name, factor } = scaled(unit, Math.max(...ends, 0));
  const traces = [];
  DATA.groups.forEach((group, index) => {
    if (group.lines.length < 2) return;
    for (const line of group.lines) {
      traces.push({
        type: "scatter",
        mode: "lines",
        x: line.accuracy[over].x.map((value) => value / factor),
        y: line.accuracy[over].y,
        line: { color: style(index).colour, width: 0.7 },
        opacity: line.is_counted ? 0.45 : 0.25,
        hoverinfo: "skip",
        meta: { group: index },
      });
    }
  });
  const texts = { unit: "", value: (value) => value.toFixed(3) };
  bands.forEach((band, index) => band && traces.push(...bandTraces(index, band, factor, 1, texts)));
  const shapes = [];
  const annotations = [];
  for (const [value, text] of [[DATA.target, "target"], [DATA.majority, "majority class"]]) {
    if (value === null) continue;
    shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value,
                  line: { color: "#6B7580", width: 1, dash: "dot" } });
    annotations.push({ xref: "paper", x: 1, y: value, xanchor: "right", yanchor: "bottom", showarrow: false,
                       text: `${text} ${Number(value.toPrecision(3))}`, font: { size: 10.5, color: "#56616C" } });
  }
  return draw(element, traces, {
    height: 300,
    xaxis: axis(titled(title, name), {
      unifiedhovertitle: { text: `${title}: %{x:.4~g} ${name}` }, rangemode: "tozero", ...(unit === "1" ? wholeNumbers(Math.max(...ends, 0)) : {}),
    }),
    yaxis: axis("accuracy"),
    hovermode: "x unified",
    hoverdistance: -1,
    shapes,
    annotations,
  });
}

function drawWaitingCurve(element) {
  const traces = [];
  const largest = Math.max(0, ...DATA.groups.flatMap((group) => (group.waiting ? group.waiting.high : [])));
  const last = Math.max(0, ...DATA.groups.flatMap((group) => (group.waiting ? group.waiting.x.at(-1) : [])));
  const { name, factor } = scaled("s", largest);
  const texts = { unit: ` ${name}`, value: (value) => quantity(value, "s") };
  DATA.groups.forEach((group, index) => {
    if (group.waiting) traces.push(...bandTraces(index, group.waiting, 1, factor, texts));
  });
  return draw(element, traces, {
    height: 320,
    xaxis: axis("round", { unifiedhovertitle: { text: "round %{x}" }, range: [0, Math.max(1, last * 1.01)], ...wholeNumbers(last) }),
    yaxis: axis(titled("mean waiting of the cohort", name), { rangemode: "tozero" }),
    hovermode: "x unified",
    hoverdistance: -1,
  });
}

// ---- one round

function drawRound(element) {
  const group = DATA.groups[Number(document.getElementById("round-group").value)];
  const round = group.rounds[Math.min(Number(document.getElementById("round-number").value), group.rounds.length - 1)];
  const devices = unpack(round.device);
  const profiles = unpack(round.profile);
  const depths = unpack(round.depth);
  const kinds = unpack(round.kind);
  const rows = unpack(round.row);
  const starts = unpack(round.start_s);
  const spans = unpack(round.span_s);
  const sizes = unpack(round.n_bytes);
  const joules = unpack(round.energy_j);
  const { name, factor } = scaled("s", round.length_s);
  const traces = Object.entries(KINDS).map(([kind, look], code) => {
    const own = [...kinds.keys()].filter((bar) => kinds[bar] === code);
    return {
      type: "bar",
      orientation: "h",
      name: look.name,
      y: own.map((bar) => rows[bar]),
      base: own.map((bar) => starts[bar] / factor),
      x: own.map((bar) => spans[bar] / factor),
      marker: { color: look.colour, line: { width: 0 },
                pattern: { shape: look.pattern, fgcolor: "#fff", size: 5, solidity: 0.25, fillmode: "overlay" } },
      hovertext: own.map((bar) => {
        const row = rows[bar];
        const moved = sizes[bar] ? `, ${quantity(sizes[bar], "B")}` : "";
        return `<b>device ${devices[row]}</b> ${escaped(round.profiles[profiles[row]])}, depth ${depths[row]}, ` +
          `${round.status[row].replaceAll("_", " ")}<br>${look.name} from ${quantity(starts[bar], "s")} to ` +
          `${quantity(starts[bar] + spans[bar], "s")}<br>${quantity(spans[bar], "s")}${moved}, ` +
          `${quantity(joules[bar], "J")}`;
      }),
      hoverinfo: "text",
    };
  });
  const lost = [...devices.keys()].filter((row) => !["ok", "idle"].includes(round.status[row]));
  if (lost.length) {
    traces.push({
      type: "scatter", mode: "markers", name: "lost to the round", y: lost,
      x: lost.map(() => round.length_s / factor),
      marker: { symbol: "x", size: 8, color: "#D55E00" },
      hovertext: lost.map((row) => `device ${devices[row]}: ${round.status[row].replaceAll("_", " ")}`),
      hoverinfo: "text",
    });
  }
  return draw(element, traces, {
    height: Math.min(900, 170 + 7 * devices.length + 40 * (devices.length < 20)),
    barmode: "overlay",
    bargap: devices.length > 40 ? 0.12 : 0.25,
    xaxis: axis(titled("time since the round began", name), { range: [0, (round.length_s / factor) * 1.015] }),
    yaxis: axis("", typeAxis(profiles, round.profiles)),
    shapes: borders(profiles),
    hovermode: "closest",
    showlegend: true,
    legend: below(),
  });
}

function typeAxis(profiles, names) {
  const rows = names.map((_, code) => [...profiles.keys()].filter((row) => profiles[row] === code));
  return {
    tickmode: "array",
    tickvals: rows.map((own) => own[0] + (own.length - 1) / 2),
    ticktext: names.map((name, code) => `${escaped(name)}<br>${rows[code].length} devices`),
    range: [-0.7, profiles.length - 0.3],
    ticks: "",
    showgrid: false,
    zeroline: false,
  };
}

function borders(profiles) {
  const starts = [...profiles.keys()].filter((row) => row > 0 && profiles[row] !== profiles[row - 1]);
  return starts.map((row) => ({
    type: "line", xref: "paper", x0: 0, x1: 1, y0: row - 0.5, y1: row - 0.5, line: { color: "#6B7580", width: 1 },
  }));
}

// ---- heat maps of settings

function drawSettings(element) {
  const which = element.dataset.which;
  const shown = DATA.groups.filter((group) => group.settings);
  const maps = shown.map((group) => unpack(group.settings[which]));
  const largest = maps.flatMap((map) => [map.reduce((most, value) => (value > most ? value : most), 0)]);
  const columns = Math.min(shown.length, 4);
  const nRows = Math.ceil(shown.length / columns);
  const shape = { annotations: [], shapes: [] };
  const gapX = 0.02;
  const titles = shown.map((group) => wrapped(group.label, 84 / columns));
  const nLines = Math.max(1, ...titles.map((lines) => lines.length));
  const gapY = (0.14 + 0.04 * nLines) / nRows;
  const traces = shown.map((group, index) => {
    const settings = group.settings;
    const [nDevices, nRounds] = settings.depth.shape;
    const devices = unpack(settings.device);
    const profiles = unpack(settings.profile);
    const rounds = unpack(settings.round);
    const labels = [...devices].map((device, row) => `device ${device} (${settings.profiles[profiles[row]]})`);
    const z = [...labels.keys()].map((row) => maps[index].subarray(row * nRounds, (row + 1) * nRounds));
    const suffix = index ? String(index + 1) : "";
    const column = index % columns;
    const row = Math.floor(index / columns);
    const width = (1 - gapX * (columns - 1)) / columns;
    const height = (1 - gapY * (nRows - 1)) / nRows;
    const left = column * (width + gapX);
    const top = 1 - row * (height + gapY);
    const types = typeAxis(profiles, settings.profiles);
    shape[`xaxis${suffix}`] = axis("round", {
      ...wholeNumbers(rounds.at(-1) * columns), domain: [left, left + width], anchor: `y${suffix}`, showgrid: false,
    });
    shape[`yaxis${suffix}`] = axis("", {
      ...types,
      type: "category",
      range: [...types.range].reverse(),
      tickvals: types.tickvals.map((value) => labels[Math.round(value)]),
      showticklabels: column === 0,
      domain: [Math.max(0, top - height), top],
      anchor: `x${suffix}`,
    });
    shape.annotations.push({
      text: `<b>${titles[index].join("<br>")}</b>`, showarrow: false, xref: "paper", yref: "paper",
      x: left + width / 2, xanchor: "center", y: top, yanchor: "bottom", font: { size: 12.5 },
    });
    shape.shapes.push(...borders(profiles).map((line) => ({
      ...line, xref: `x${suffix} domain`, yref: `y${suffix}`, line: { color: "#fff", width: 1.5 },
    })));
    return {
      type: "heatmap", x: [...rounds], y: labels, z, zmin: 0, coloraxis: "coloraxis",
      xaxis: `x${suffix}`, yaxis: `y${suffix}`, hoverongaps: false,
      hovertemplate: `%{y}<br>round %{x}: ${which} %{z:.3g}<extra>${escaped(group.label)}</extra>`,
    };
  });
  return draw(element, traces, {
    ...shape,
    height: 100 + 16 * nLines + 290 * nRows,
    margin: { l: 56, r: 16, t: 12 + 16 * nLines, b: 48 },
    coloraxis: {
      colorscale: "Cividis", cmin: 0, cmax: Math.max(1, ...largest),
      colorbar: { title: { text: which === "depth" ? "depth<br>(layers)" : "mean<br>rank" }, thickness: 12, outlinewidth: 0 },
    },
  });
}

// ---- by device type

function typesOf() {
  return [...new Set(DATA.groups.flatMap((group) => group.types.map((type) => type.profile)))];
}

function drawWaitingBoxes(element) {
  const values = DATA.groups.flatMap((group) => group.types.flatMap((type) => (type.waiting ? type.waiting[4] : [])));
  const { name, factor } = scaled("s", Math.max(0, ...values));
  const traces = DATA.groups.map((group, index) => {
    const types = group.types.filter((type) => type.waiting);
    const part = (place) => types.map((type) => type.waiting[place] / factor);
    return {
      type: "box", name: group.label, x: types.map((type) => type.profile),
      lowerfence: part(0), q1: part(1), median: part(2), q3: part(3), upperfence: part(4), mean: part(5),
      line: { color: style(index).colour, width: 1.6 }, fillcolor: style(index).colour + "33",
      hoverinfo: "y+name", meta: { group: index }, offsetgroup: String(index),
    };
  });
  return draw(element, traces, {
    height: 320,
    boxmode: "group",
    xaxis: axis("", { ticks: "", categoryarray: typesOf(), categoryorder: "array" }),
    yaxis: axis(titled("waiting per device and round", name), { rangemode: "tozero" }),
  });
}

// Rows are device types, and groups within them where there are several.
function rowLabels(rows) {
  const profiles = rows.map((row) => escaped(row.profile));
  return DATA.groups.length > 1 ? [profiles, rows.map((row) => rowLabel(row.group))] : profiles;
}

function rowLabel(group) {
  return wrapped(group.label, 30).join("<br>");
}

function rowHeight() {
  if (DATA.groups.length === 1) return 34;
  return 10 + 14 * Math.max(...DATA.groups.map((group) => wrapped(group.label, 30).length));
}

// Stacked bars, one for each group within each device type.
function drawStacks(element, looks, part, unit, title) {
  const rows = typesOf().flatMap((profile) =>
    DATA.groups.flatMap((group) => {
      const type = group.types.find((candidate) => candidate.profile === profile);
      return type ? [{ profile, group, type }] : [];
    })
  );
  const keys = Object.keys(looks);
  const totals = rows.map((row) => keys.reduce((sum, key) => sum + part(row.type, key), 0));
  const { name, factor } = scaled(unit, Math.max(0, ...totals));
  const y = rowLabels(rows);
  const traces = keys.map((key) => ({
    type: "bar", orientation: "h", name: looks[key].name, y,
    x: rows.map((row) => part(row.type, key) / factor),
    marker: { color: looks[key].colour, line: { width: 0 },
              pattern: { shape: looks[key].pattern, fgcolor: "#fff", size: 6, solidity: 0.25, fillmode: "overlay" } },
    hovertemplate: `%{y}<br>${looks[key].name}: %{x:.4g} ${name}<extra></extra>`,
  }));
  return draw(element, traces, {
    height: 130 + rows.length * rowHeight(),
    barmode: "stack",
    bargap: 0.25,
    xaxis: axis(titled(title, name), { rangemode: "tozero" }),
    yaxis: axis("", { autorange: "reversed", ticks: "", showgrid: false, dividercolor: "#6B7580" }),
    showlegend: true,
    legend: below(),
  });
}

function drawMemory(element) {
  const rows = typesOf().flatMap((profile) =>
    DATA.groups.flatMap((group, index) => {
      const type = group.types.find((candidate) => candidate.profile === profile);
      return type && type.peak_bytes ? [{ profile, group, index, type }] : [];
    })
  );
  const { name, factor } = scaled("B", Math.max(0, ...rows.map((row) => row.type.limit_bytes)));
  const traces = [{
    type: "bar", orientation: "h", name: "usable memory of the board", y: rowLabels(rows),
    x: rows.map((row) => row.type.limit_bytes / factor),
    marker: { color: "#EEF0F3", line: { color: "#6B7580", width: 1 } },
    hovertemplate: `%{y}<br>limit %{x:.3g} ${name}<extra></extra>`,
  }];
  traces.push({
    type: "scatter", mode: "markers", name: "median need, with the lowest and the highest", y: rowLabels(rows),
    x: rows.map((row) => row.type.peak_bytes[1] / factor),
    error_x: {
      type: "data", symmetric: false, thickness: 2.2, width: 5, color: "#0072B2",
      array: rows.map((row) => (row.type.peak_bytes[2] - row.type.peak_bytes[1]) / factor),
      arrayminus: rows.map((row) => (row.type.peak_bytes[1] - row.type.peak_bytes[0]) / factor),
    },
    marker: { size: 9, symbol: "diamond", color: "#0072B2" },
    customdata: rows.map((row) => row.type.peak_bytes.map((value) => quantity(value, "B"))),
    hovertemplate: "%{y}<br>median need %{customdata[1]} (%{customdata[0]} to %{customdata[2]})<extra></extra>",
  });
  return draw(element, traces, {
    height: 130 + rows.length * (rowHeight() + 4),
    bargap: 0.35,
    xaxis: axis(titled("memory", name), { rangemode: "tozero" }),
    yaxis: axis("", { autorange: "reversed", ticks: "", showgrid: false, dividercolor: "#6B7580" }),
    showlegend: true,
    legend: below(),
  });
}

const TRANSFERS = { download: { ...KINDS.download, name: "received" }, upload: { ...KINDS.upload, name: "sent" } };
const DRAW = {
  accuracy: drawAccuracy,
  waiting: drawWaitingCurve,
  round: drawRound,
  settings: drawSettings,
  boxes: drawWaitingBoxes,
  seconds: (element) => drawStacks(element, KINDS, (type, key) => type.mean_s[key], "s", "mean time per device and round"),
  bytes: (element) =>
    drawStacks(element, TRANSFERS, (type, key) => type[`${key}_bytes`], "B", "traffic per device over the run"),
  joules: (element) => drawStacks(element, KINDS, (type, key) => type.energy_j[key], "J", "energy per device over the run"),
  memory: drawMemory,
  lost: (element) => drawStacks(element, LOST, (type, key) => type.n_lost[key], "1", "device-rounds lost, over all seeds"),
};

// ---- controls

function swatch(index) {
  const { colour, dash, symbol } = style(index);
  const marks = {
    circle: '<circle cx="17" cy="7" r="4"/>', square: '<rect x="13" y="3" width="8" height="8"/>',
    diamond: '<path d="M17 2l5 5-5 5-5-5z"/>', "triangle-up": '<path d="M17 2l5 9h-10z"/>',
    x: '<path d="M13 3l8 8m0-8l-8 8" stroke-width="3"/>', star: '<path d="M17 2l2 4h4l-3 3 1 4-4-2-4 2 1-4-3-3h4z"/>',
  };
  return `<svg width="34" height="14" viewBox="0 0 34 14" aria-hidden="true" fill="${colour}" stroke="${colour}">` +
    `<line x1="0" y1="7" x2="34" y2="7" stroke-width="2.2" stroke-dasharray="${STROKES[dash]}"/>${marks[symbol]}</svg>`;
}

function groupKeys() {
  for (const place of document.querySelectorAll(".group-key")) {
    DATA.groups.forEach((group, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.title = "show or hide in the figures of this section";
      button.innerHTML = `${swatch(index)}<span>${escaped(group.label)}</span>`;
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(shown));
        for (const plot of place.closest("section").querySelectorAll("[data-figure]")) {
          const own = (plot.data || []).flatMap((trace, at) => (trace.meta && trace.meta.group === index ? [at] : []));
          if (own.length) Plotly.restyle(plot, { visible: shown }, own);
        }
      });
      place.append(button);
    });
  }
}

function roundControls() {
  const group = document.getElementById("round-group");
  const round = document.getElementById("round-number");
  if (!group) return;
  const plot = document.querySelector('[data-figure="round"]');
  const label = document.getElementById("round-label");
  const update = (redraw) => {
    const rounds = DATA.groups[Number(group.value)].rounds;
    round.max = rounds.length - 1;
    const shown = rounds[Math.min(Number(round.value), rounds.length - 1)];
    label.textContent = `${DATA.groups[Number(group.value)].label}, round ${shown.round}: ${quantity(shown.length_s, "s")}`;
    if (redraw) drawRound(plot);
  };
  group.addEventListener("change", () => update(true));
  round.addEventListener("input", () => update(true));
  update(false);
}

function markSection() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const [id, link] of links) link.classList.toggle("here", id === entry.target.id);
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main section[id]").forEach((section) => seen.observe(section));
}

async function main() {
  groupKeys();
  roundControls();
  markSection();
  for (const element of document.querySelectorAll("[data-figure]")) {
    await DRAW[element.dataset.figure](element);
    // The browser may answer to the reader between two figures; frames would not come in a hidden tab.
    await new Promise((resume) => setTimeout(resume));
    element.on("plotly_afterplot", () => {
      for (const svg of element.querySelectorAll("svg.main-svg")) {
        svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
      }
    });
  }
  // Paper has no folded parts.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
  document.documentElement.dataset.ready = "yes";
}

main();
