// Keeps "3 s ago" true, says when the stream is cut, and draws the charts. Everything else works without it.
"use strict";

const SECOND = 1000;

function describeAgo(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s ago`;
  if (s < 7200) return `${Math.floor(s / 60)} min ago`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} days ago`;
}

// The server's clock counts: how far ours is from it is known from the newest answer.
let skew = 0;

function tick() {
  const now = Date.now() + skew;
  for (const each of document.querySelectorAll("time[data-ago]")) {
    each.textContent = describeAgo((now - Date.parse(each.dateTime)) / SECOND);
    if (!each.dataset.local) {
      each.dataset.local = "yes";
      each.title += `, ${new Date(each.dateTime).toLocaleString()} here`;
    }
  }
}

function showCut(isCut) {
  const cut = document.getElementById("cut");
  if (cut) cut.hidden = !isCut;
}

document.addEventListener("htmx:sse:error", () => showCut(true));
document.addEventListener("htmx:sse:after:connection", () => showCut(false));
document.addEventListener("htmx:sse:after:message", () => { showCut(false); tick(); });

function readColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function makeChart(place, title, data, series, bands, marks) {
  const figure = document.createElement("figure");
  figure.className = "chart";
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.append(caption);
  place.append(figure);
  const axis = { stroke: readColor("--dim"), grid: { stroke: readColor("--line") } };
  const drawMarks = (plot) => {
    plot.ctx.save();
    plot.ctx.strokeStyle = readColor("--dim");
    plot.ctx.fillStyle = readColor("--dim");
    plot.ctx.setLineDash([4, 4]);
    for (const mark of marks) {
      const x = Math.round(plot.valToPos(mark.at, "x", true));
      plot.ctx.beginPath();
      plot.ctx.moveTo(x, plot.bbox.top);
      plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
      plot.ctx.stroke();
      plot.ctx.fillText(mark.text, x + 4, plot.bbox.top + 12);
    }
    plot.ctx.restore();
  };
  const plot = new uPlot(
    {
      width: Math.max(280, figure.clientWidth), height: 220, series: [{}, ...series], bands,
      axes: [axis, axis], hooks: { draw: [drawMarks] }, cursor: { drag: { x: false, y: false } },
    },
    data, figure,
  );
  new ResizeObserver(() => {
    const width = Math.max(280, figure.clientWidth);
    if (width !== plot.width) plot.setSize({ width, height: 220 });
  }).observe(figure);
}

function alignVersions(versions, name) {
  const moments = [...new Set(Object.values(versions).flatMap((each) => each.at))].sort((a, b) => a - b);
  const places = new Map(moments.map((at, place) => [at, place]));
  const columns = Object.values(versions).map((each) => {
    const column = new Array(moments.length).fill(null);
    each.at.forEach((at, place) => { column[places.get(at)] = each[name][place]; });
    return column;
  });
  return [moments, ...columns];
}

// A theme that changes while the page is open changes the colours of what is drawn, too.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => loadCharts());

const DASHES = [[], [9, 5], [3, 4], [14, 4, 3, 4]];

function drawCharts(place, series) {
  const names = Object.keys(series.versions);
  place.replaceChildren();
  if (!names.length) {
    place.textContent = "Nothing was counted in this time.";
    return;
  }
  const colors = ["--bad", "--note", "--good", "--warn"].map(readColor);
  const percent = (value) => (value === null ? "" : `${(100 * value).toFixed(2)} %`);
  const shares = alignVersions(series.versions, "share");
  const low = alignVersions(series.versions, "low");
  const high = alignVersions(series.versions, "high");
  const data = [shares[0]];
  const lines = [];
  const bands = [];
  names.forEach((name, place) => {
    const color = colors[place % colors.length];
    const first = data.length;
    data.push(shares[place + 1], high[place + 1], low[place + 1]);
    lines.push(
      { label: `${name.slice(0, 8)} failed`, stroke: color, dash: DASHES[place % 4], width: 2, value: (_, v) => percent(v), spanGaps: true },
      { label: "99 % at most", stroke: "transparent", value: (_, v) => percent(v), spanGaps: true },
      { label: "99 % at least", stroke: "transparent", value: (_, v) => percent(v), spanGaps: true },
    );
    bands.push({ series: [first + 1, first + 2], fill: `${color}22` });
  });
  data.push(shares[0].map(() => series.error_rate_below));
  lines.push({ label: "criterion", stroke: readColor("--dim"), dash: [2, 3], value: (_, v) => percent(v) });
  makeChart(place, "Failed requests, by version; the band is where the true share lies with 99 % confidence", data, lines, bands, series.marks);
  const times = [shares[0]];
  const timeLines = [];
  names.forEach((name, place) => {
    for (const quantile of ["p50_ms", "p95_ms", "p99_ms"]) {
      times.push(alignVersions(series.versions, quantile)[place + 1]);
      timeLines.push({ label: `${name.slice(0, 8)} ${quantile.slice(0, 3)}`, stroke: colors[place % colors.length], width: quantile === "p95_ms" ? 2 : 1, dash: DASHES[place % 4], value: (_, v) => (v === null ? "" : `${v} ms`), spanGaps: true });
    }
  });
  makeChart(place, "Response times (ms), by version", times, timeLines, [], series.marks);
  const evidence = series.evidence;
  if (evidence && evidence.chart) {
    const since = Date.parse(evidence.since) / SECOND;
    const at = evidence.chart.after_s.map((s) => since + s);
    makeChart(
      place, "How the evidence grew (natural logarithm), and from where on it decides",
      [at, evidence.chart.all, at.map(() => evidence.threshold.log_evidence)],
      [{ label: "evidence", stroke: colors[0], width: 2 }, { label: "decides", stroke: readColor("--dim"), dash: [2, 3] }],
      [], series.marks,
    );
  }
}

async function loadCharts() {
  const place = document.getElementById("charts");
  if (!place || typeof uPlot === "undefined") return;
  try {
    const answer = await fetch(place.dataset.series, { credentials: "same-origin" });
    if (answer.headers.get("date")) skew = Date.parse(answer.headers.get("date")) - Date.now();
    if (answer.ok) drawCharts(place, await answer.json());
  } catch {
    showCut(true);
  }
}

document.getElementById("local").textContent = `Here it is ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`;
setInterval(tick, SECOND);
loadCharts();
if (document.getElementById("charts")) setInterval(loadCharts, 5 * SECOND);
