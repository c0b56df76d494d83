// By device type: waiting, seconds, bytes, joules, memory and losses.

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
