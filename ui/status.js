// The status page: asks /v1/observe once a second and draws it. No library, nothing from elsewhere.
"use strict";
const $ = id => document.getElementById(id);
const CHARTS = [["qps", "searches a second", v => v.toFixed(1)], ["p50_ms", "p50", ms], ["p95_ms", "p95", ms], ["p99_ms", "p99", ms],
  ["errors_per_second", "errors a second", v => v.toFixed(2)], ["lag_seconds", "lag", v => v.toFixed(1) + " s"],
  ["cpu_cores", "CPU, cores", v => v.toFixed(2)], ["rss_bytes", "memory", bytes]];
let key = "";

function ms(v) { return (v < 10 ? v.toFixed(2) : v.toFixed(0)) + " ms"; }
function bytes(v) { return v < 1e9 ? (v / 1e6).toFixed(1) + " MB" : (v / 1e9).toFixed(2) + " GB"; }
function element(name, props = {}, ...children) {
  const e = Object.assign(document.createElement(name), props);
  e.append(...children);
  return e;
}

async function ask(path) {
  const answer = await fetch(path, key ? {headers: {Authorization: "Bearer " + key}} : {});
  if (answer.status === 401 || answer.status === 403) $("key-form").hidden = false;
  if (!answer.ok) throw new Error((await answer.json()).detail || answer.status);
  return answer.json();
}

const SVG = "http://www.w3.org/2000/svg";
function chart(name, label, format) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 300 60");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const path = svg.appendChild(document.createElementNS(SVG, "path"));
  const now = element("b", {textContent: "–"});
  const figure = element("figure", {className: "chart"}, element("figcaption", {}, element("span", {textContent: label}), now), svg);
  return {figure, draw(values) {
    const top = Math.max(...values, 1e-9), span = Math.max(60, values.length);
    path.setAttribute("d", values.map((v, i) => (i ? "L" : "M") + (300 - 300 * (values.length - 1 - i) / span).toFixed(1) + " " + (58 - 55 * v / top).toFixed(1)).join(""));
    now.textContent = values.length ? format(values[values.length - 1]) : "–";
    svg.setAttribute("aria-label", `${label}: now ${now.textContent}, at most ${format(top)} in five minutes`);
  }};
}
const charts = CHARTS.map(c => {
  const made = chart(...c);
  $("charts").append(made.figure);
  return made;
});

function showStages(stages) {
  $("stages").replaceChildren(...stages.map(s => element("tr", {},
    element("th", {scope: "row", textContent: s.name}), element("td", {textContent: (100 * s.share).toFixed(1) + " %"}),
    element("td", {textContent: s.p50_ms.toFixed(3) + " ms"}), element("td", {textContent: s.p99_ms.toFixed(3) + " ms"}),
    element("td", {}, element("progress", {max: 1, value: s.share, ariaLabel: s.name})))));
}

function showFacts(o) {
  const index = o.memory.words + o.memory.attrs + o.memory.vectors + o.memory.other;
  const facts = [["posts", o.posts], ["vectors", o.vectors], ["wait for a vector", o.embed_pending], ["cannot be embedded", o.embed_failed],
    ["index memory", bytes(index)], ["of what it may use", (100 * index / o.memory.limit).toFixed(1) + " %"],
    ["lag of the store", o.lag.store.toFixed(1) + " s"], ["lag of vectors", o.lag.vectors.toFixed(1) + " s"], ["lag of embedding", o.lag.embed.toFixed(1) + " s"],
    ["journal's head", o.head_lsn], ["snapshot", o.snapshot_age_seconds < 0 ? "none yet" : o.snapshot_age_seconds + " s old"],
    ["connections", o.connections], ["requests running", o.requests_open], ["requests waiting", o.queue], ["turned away", o.shed], ["failed (5xx)", o.status_5xx]];
  $("facts").replaceChildren(...facts.map(([k, v]) => element("div", {}, element("dt", {textContent: k}), element("dd", {textContent: String(v)}))));
}

function traceText(spans) {
  const ids = new Map(spans.map(s => [s.span_id, s]));
  const depth = s => { let d = 0; for (let p = ids.get(s.parent_id); p && d < 20; p = ids.get(p.parent_id)) d++; return d; };
  return spans.slice().sort((a, b) => a.start_ns - b.start_ns || depth(a) - depth(b))
    .map(s => `${(s.duration_ns / 1e6).toFixed(3).padStart(10)} ms  ${"  ".repeat(depth(s))}${s.name}${s.failed ? " FAILED" : ""} `
      + Object.entries(s.attributes).map(([k, v]) => `${k}=${v}`).join(" ")).join("\n");
}

let shown = "";
function showTraces(traces) {
  const ids = traces.map(t => t.trace_id + t.spans.length).join();
  if (ids === shown) return;
  shown = ids;
  $("trace-list").replaceChildren(...traces.map(t => {
    const root = t.spans.reduce((a, b) => (b.duration_ns > a.duration_ns ? b : a));
    const line = element("summary", {textContent: `${(root.duration_ns / 1e6).toFixed(2)} ms  ${root.name}${t.slow ? "  slow or failed" : ""}`, className: t.slow ? "bad" : ""});
    return element("details", {}, line, element("pre", {textContent: t.trace_id + "\n" + traceText(t.spans)}));
  }));
  if (!traces.length) $("trace-list").textContent = "None yet.";
}

let turn = 0;
async function tick() {
  try {
    const o = await ask("/v1/observe");
    charts.forEach((c, i) => c.draw(o[CHARTS[i][0]]));
    showStages(o.stages);
    showFacts(o);
    if (turn++ % 5 === 0) showTraces((await ask("/v1/traces?limit=10")).traces);
    $("state").textContent = `kith ${o.version}, ${o.searches} searches since it started`;
    $("key-form").hidden = true;
  } catch (e) {
    $("state").textContent = e instanceof TypeError ? "The server cannot be reached." : String(e.message);
  }
  setTimeout(tick, 1000);
}
$("key-form").addEventListener("submit", e => { e.preventDefault(); key = $("key").value.trim(); });
tick();
