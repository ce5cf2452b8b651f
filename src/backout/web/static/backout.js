// Keeps "3 s ago" true, says when the stream is cut, and draws the charts. Everything else works without it.
"use strict";

const SECOND = 1000;

function describeAgo(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 1) return "just now";
  if (s < 120) return `${s} s ago`;
  if (s < 7200) return `${Math.floor(s / 60)} min ago`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

// The server's clock counts: how far ours is from it is known from the newest answer.
let skew = 0;

function tick() {
  const now = Date.now() + skew;
  for (const each of document.querySelectorAll("time[data-ago]")) {
    each.textContent = describeAgo((now - Date.parse(each.dateTime)) / SECOND);
    if (!each.dataset.local) {
      each.dataset.local = "yes";
      if (new Date(each.dateTime).getTimezoneOffset() !== 0) each.title += `, ${new Date(each.dateTime).toLocaleString()} here`;
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

// A stream that could not be opened at all is tried again by nobody else; one that was cut is, by the extension.
async function openStream() {
  const live = document.getElementById("live");
  const address = live && live.getAttribute("hx-sse:connect");
  if (!address || (live._htmx && live._htmx.sse)) return;
  showCut(true);
  try {
    await htmx.ajax("GET", address, { source: live });
  } catch {
    showCut(true);
  }
}
setInterval(openStream, 4 * SECOND);

// A form is sent once, however often its button is pressed; what a page of the past shows is read again.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
});

// A link to a form leads into its field: whoever follows it wants to type.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  const place = link && document.getElementById(link.hash.slice(1));
  const field = place && place.querySelector("textarea, input:not([type=hidden])");
  if (field) setTimeout(() => field.focus({ preventScroll: true }));
});

// A browser's own words for a field name no format: with these it says what to type.
document.addEventListener("invalid", (event) => {
  if (event.target.validity.patternMismatch) event.target.setCustomValidity(event.target.title);
}, true);
document.addEventListener("input", (event) => event.target.setCustomValidity(""));
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

function readColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const percent = (value) => (value === null || value === undefined ? "–" : `${Number((100 * value).toPrecision(3))} %`);
const number = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(4))));
const clock = (at) => (at === null || at === undefined ? "–" : new Date(at * SECOND).toISOString().slice(11, 19));

// Without a pointer on a chart its legend only says which line is which: there is no moment whose values it could name.
function showIdle(plot) {
  plot.root.classList.toggle("idle", plot.legend.idx === null || plot.legend.idx === undefined);
}

// `say` makes a value readable: on the axis and in the legend.
function makeChart(place, title, data, series, bands, marks, say) {
  const figure = document.createElement("figure");
  figure.className = "chart";
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.append(caption);
  place.append(figure);
  const axis = { stroke: readColor("--dim"), grid: { stroke: readColor("--line") }, ticks: { stroke: readColor("--line") } };
  const ratio = window.devicePixelRatio || 1;
  const drawMarks = (plot) => {
    plot.ctx.save();
    plot.ctx.strokeStyle = readColor("--dim");
    plot.ctx.fillStyle = readColor("--dim");
    plot.ctx.setLineDash([4 * ratio, 4 * ratio]);
    plot.ctx.font = `${12 * ratio}px system-ui, sans-serif`;
    marks.forEach((mark, place) => {
      const x = Math.round(plot.valToPos(mark.at, "x", true));
      if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) return;
      const isLeft = x > plot.bbox.left + plot.bbox.width / 2;
      plot.ctx.textAlign = isLeft ? "right" : "left";
      plot.ctx.beginPath();
      plot.ctx.moveTo(x, plot.bbox.top);
      plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
      plot.ctx.stroke();
      plot.ctx.fillText(mark.text, x + (isLeft ? -4 : 4) * ratio, plot.bbox.top + 14 * ratio * (place + 1));
    });
    plot.ctx.restore();
  };
  const plot = new uPlot(
    {
      width: Math.max(280, figure.clientWidth), height: 220, bands, padding: [null, 32, null, null], // a label on the right edge is not cut
      series: [{ label: "UTC", value: (_, at) => clock(at) }, ...series.map((each) => ({ value: (_, v) => say(v), ...each }))],
      axes: [{ ...axis, space: 80, values: (_, ticks) => ticks.map((at) => (ticks[1] - ticks[0] < 1 ? new Date(at * SECOND).toISOString().slice(17, 21) + " s" : clock(at))) }, { ...axis, size: 64, values: (_, ticks) => ticks.map(say) }],
      tzDate: (at) => uPlot.tzDate(new Date(at * SECOND), "Etc/UTC"),
      legend: { markers: { width: (u, i) => u.series[i].width || 2, dash: (u, i) => (u.series[i].dash && u.series[i].dash.length ? "dashed" : "solid") } },
      hooks: { draw: [drawMarks], ready: [showIdle], setLegend: [showIdle] }, cursor: { drag: { x: false, y: false } },
    },
    data, figure,
  );
  new ResizeObserver(() => {
    const width = Math.max(280, figure.clientWidth);
    if (width !== plot.width) plot.setSize({ width, height: 220 });
  }).observe(figure);
}

const SILENT_BINS = 3;

// A line goes on over a few seconds without a request; over more it would tell of answers that nobody got.
function findSilences(at, bin) {
  return at.slice(1).flatMap((to, place) => (to - at[place] > SILENT_BINS * bin ? [{ from: at[place], to }] : []));
}

function alignVersions({ versions, bin_s: bin }, name) {
  const silences = Object.values(versions).map((each) => findSilences(each.at, bin));
  const moments = [...new Set([...Object.values(versions).flatMap((each) => each.at), ...silences.flat().map(({ from }) => from + bin)])].sort((a, b) => a - b);
  const places = new Map(moments.map((at, place) => [at, place]));
  const columns = Object.values(versions).map((each, number) => {
    const column = new Array(moments.length).fill(undefined); // which is passed over; null interrupts
    silences[number].forEach(({ from, to }) => column.fill(null, places.get(from) + 1, places.get(to)));
    each.at.forEach((at, place) => { column[places.get(at)] = each[name][place]; });
    return column;
  });
  return [moments, ...columns];
}

// A theme that changes while the page is open changes the colours of what is drawn, too.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawn = ""; loadCharts(); });

const DASHES = [[], [9, 5], [3, 4], [14, 4, 3, 4]];

function drawCharts(place, series) {
  const names = Object.keys(series.versions);
  place.replaceChildren();
  if (!names.length) {
    place.textContent = "Nothing was counted in this time.";
    return;
  }
  // Red is the version that the run is about, once it was found bad; the others are never.
  const isBad = series.evidence ? series.evidence.verdict === "regressed" : series.marks.some((mark) => mark.text === "rolled back");
  const others = [isBad ? "--note" : "--warn", "--good", "--dim"];
  let next = 0;
  const colors = names.map((name) => readColor(name === series.blamed ? (isBad ? "--bad" : "--note") : others[next++ % others.length]));
  const shares = alignVersions(series, "share");
  const low = alignVersions(series, "low");
  const high = alignVersions(series, "high");
  const data = [shares[0]];
  const lines = [];
  const bands = [];
  names.forEach((name, place) => {
    const color = colors[place % colors.length];
    const first = data.length;
    data.push(shares[place + 1], high[place + 1], low[place + 1]);
    lines.push(
      { label: `${name.slice(0, 8)} failed`, stroke: color, dash: DASHES[place % 4], width: 2 },
      { label: "at most", class: "bound", stroke: "transparent", points: { show: false } },
      { label: "at least", class: "bound", stroke: "transparent", points: { show: false } },
    );
    bands.push({ series: [first + 1, first + 2], fill: `${color}22` });
  });
  data.push(shares[0].map(() => series.error_rate_below));
  lines.push({ label: "allowed", stroke: readColor("--dim"), dash: [2, 3], points: { show: false } });
  makeChart(place, "Failed requests, by version; the band is where the true share lies with 99 % confidence", data, lines, bands, series.marks, percent);
  const times = [shares[0]];
  const timeLines = [];
  names.forEach((name, place) => {
    for (const quantile of ["p95_ms", "p99_ms"]) {
      times.push(alignVersions(series, quantile)[place + 1]);
      timeLines.push({ label: `${name.slice(0, 8)} ${quantile.slice(0, 3)}`, stroke: colors[place % colors.length], width: quantile === "p95_ms" ? 3 : 1, dash: DASHES[place % 4] });
    }
  });
  makeChart(place, "Response times, by version: 95 of 100 answers are faster than the thick line, 99 than the thin one", times, timeLines, [], series.marks, (v) => (v === null || v === undefined ? "–" : `${number(v)} ms`));
  const evidence = series.evidence;
  if (evidence && evidence.chart && evidence.chart.after_s.length > 1) {
    const since = Date.parse(evidence.since) / SECOND;
    const at = evidence.chart.after_s.map((s) => since + s);
    makeChart(
      place, "How the evidence against the version grew (natural logarithm); from the dotted line on it decides",
      [at, evidence.chart.all, at.map(() => evidence.threshold.log_evidence)],
      [{ label: "evidence", stroke: readColor(isBad ? "--bad" : "--note"), width: 2 }, { label: "decides", stroke: readColor("--dim"), dash: [2, 3], points: { show: false } }],
      [], series.marks, number,
    );
  }
}

let drawn = "";

async function loadCharts() {
  const place = document.getElementById("charts");
  const source = document.querySelector("[data-series]");
  if (!place || typeof uPlot === "undefined") return;
  document.getElementById("counted").hidden = !source;
  if (!source) return;
  try {
    const answer = await fetch(source.dataset.series, { credentials: "same-origin" });
    if (answer.headers.get("date")) skew = Date.parse(answer.headers.get("date")) - Date.now();
    const text = answer.ok ? await answer.text() : drawn;
    if (text === drawn) return;
    drawn = text;
    drawCharts(place, JSON.parse(text));
  } catch {
    showCut(true);
  }
}

if (new Date().getTimezoneOffset() !== 0) {
  document.getElementById("local").textContent = ` Here it is ${Intl.DateTimeFormat().resolvedOptions().timeZone}; the times of yours are shown where you point at one.`;
}
setInterval(tick, SECOND);
loadCharts();
if (document.getElementById("charts")) setInterval(loadCharts, 5 * SECOND);
