// The figures of the page, each an element with data-figure, and the controls beside them.

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
