// Device by device: who does what in a round, and which settings each device had.

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
          `${joules[bar] > 0 ? quantity(joules[bar], "J") : "no power figures"}`;
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
    ticktext: names.map((name, code) => `${escaped(name)}<br>${rows[code].length} ${rows[code].length === 1 ? "device" : "devices"}`),
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
    const labels = [...devices].map((device, row) => `device ${device} (${escaped(settings.profiles[profiles[row]])})`);
    const z = [...labels.keys()].map((row) => maps[index].subarray(row * nRounds, (row + 1) * nRounds));
    const suffix = index ? String(index + 1) : "";
    const column = index % columns;
    const row = Math.floor(index / columns);
    const width = (1 - gapX * (columns - 1)) / columns;
    const height = (1 - gapY * (nRows - 1)) / nRows;
    const left = column * (width + gapX);
    const top = 1 - row * (height + gapY);
    const types = typeAxis(profiles, settings.profiles);
    shape[`xaxis${suffix}`] = axis("round (from 0)", {
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
