// Curves: a score over time, rounds, bytes and energy, and waiting over rounds.

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
    name: escaped(group.label),
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

function drawAccuracy(element) {
  const over = element.dataset.over;
  const [title, unit] = AXES[over];
  const bands = DATA.groups.map((group) => group.score[over]);
  const ends = DATA.groups.flatMap((group) => group.lines.map((line) => line.score[over].x.at(-1) || 0));
  const { name, factor } = scaled(unit, Math.max(...ends, 0));
  const traces = [];
  DATA.groups.forEach((group, index) => {
    if (group.lines.length < 2) return;
    for (const line of group.lines) {
      traces.push({
        type: "scatter",
        mode: "lines",
        x: line.score[over].x.map((value) => value / factor),
        y: line.score[over].y,
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
    yaxis: axis(DATA.score),
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
    xaxis: axis("round (from 0)", { unifiedhovertitle: { text: "round %{x}" }, range: [0, Math.max(1, last * 1.01)], ...wholeNumbers(last) }),
    yaxis: axis(titled("mean waiting of the cohort", name), { rangemode: "tozero" }),
    hovermode: "x unified",
    hoverdistance: -1,
  });
}
