// Trial: a design on the left; power and assurance by size, and single trials drawn again and again, on the right.
import {
  $, ask, banded, complain, config, csv, draw, h, layout, onAnswer, pairsOf, register, savePicture, saveText, say, shown,
  table, timings, together, writeAddress,
} from "./core.js";
import { controlsOf } from "./controls.js";

const CALM = 250; // ms without a change, after which the design is asked about
const PACE = 1200; // ms between trials that play by themselves
const MOST_TALLY = 2000;
const ENOUGH = 20; // trials, before a counted share is drawn: fewer say nothing that the curve does not
const GOOD = "#0072B2";
const BAD = "#D55E00";
const NEUTRAL = "#8a8a8a";

let design = {}; // what differs from the scenario's own
let choices = null; // what stands for what is left out
let options = null; // what may be chosen
let latest = null; // numbers of the design, as far as they are known
let more = 1; // times the trials of the beginning
let changed = 0;
let waiting = 0; // timer of the question to come
let rebuild = false;
let given = []; // what the address said, until the first answer
let pending = []; // problems of the address, told with the first answer
let world = "own";
let tally = []; // trials drawn so far
let last = null; // the newest of them, patient by patient
let playing = false;
let timer = 0;
const still = window.matchMedia("(prefers-reduced-motion: reduce)");

const { fields, noted, slider, choice, mark } = controlsOf("trial", () => refresh());

// ---------------------------------------------------------------- the form

const OWN = "own schedule";
const own = () => design.scenario === null || Boolean(design.arm);

function put(name, value) {
  design[name] = value;
}

function peopleForm() {
  const list = Object.entries(options.scenarios).map(([name, title]) => [name, title]);
  if (design.scenario === null) list.unshift(["", "Taken over from Explore"]);
  const others = pairsOf("explore").filter(([name]) => name === "arm");
  const buttons = others.map(([, text], place) => h("button", { type: "button", class: "quiet", id: `trial-take-${place}`, title: text, onclick: () => takeOver(place) }, others.length > 1 ? `Take over arm ${"ABCD"[place]} from Explore` : "Take over from Explore"));
  return h("fieldset", {}, h("legend", {}, "Patients"),
    choice({ name: "scenario", label: "Start from", list, value: design.scenario ?? "", set: (v) => { if (v) load([["scenario", v]]); } }),
    buttons.length ? h("div", { class: "draws" }, buttons) : h("p", { class: "note" }, "What is set up on Explore can be taken over from here once that tab was opened."),
    h("p", { class: "note", id: "trial-who" }, choices.patient));
}

function armForm() {
  const parts = [];
  if (design.scenario !== null) {
    const list = [...choices.treatments.map((t) => [t, t]), [OWN, "A schedule of your own"]];
    parts.push(choice({
      name: "treatment", label: "Treated arm", list, value: design.arm ? OWN : choices.treatment,
      set(value) {
        if (value === OWN) {
          put("arm", structuredClone(choices.arm));
          delete design.treatment;
        } else {
          delete design.arm;
          put("treatment", value);
        }
        rebuild = true;
        build();
        refresh();
      },
    }));
  }
  parts.push(h("p", { class: "note" }, own() ? "" : `${choices.given} `, `Against: ${choices.reference}.`));
  if (own()) {
    if (!design.arm) put("arm", structuredClone(choices.arm));
    const arm = design.arm;
    const product = config.products[arm.product];
    const set = (name) => (v) => { design.arm = { ...design.arm, [name]: v }; };
    parts.push(
      choice({
        name: "arm.product", label: "Product", value: arm.product, list: Object.entries(config.products).map(([v, p]) => [v, `${v}: ${p.title}`]),
        set(value) {
          const now = config.products[value];
          const route = now.routes.includes(design.arm.route) ? design.arm.route : now.routes[0];
          const dose = now.kind !== product.kind ? (now.kind === "ev" ? 10 : 1) : design.arm.dose; // a dose of cells says nothing of vesicles
          design.arm = { ...design.arm, product: value, route, dose };
          build();
          refresh();
        },
      }),
      choice({ name: "arm.route", label: "Route", value: arm.route, list: product.routes.map((r) => [r, r]), set: (v) => { set("route")(v); refresh(); } }),
      slider({ name: "arm.dose", label: "Dose", unit: product.unit, low: 0.01, high: Math.min(1000, config.largest.human[product.kind]), log: true, value: arm.dose, set: set("dose") }),
      slider({ name: "arm.n", label: "Number of doses", low: 1, high: config.most_doses, step: 1, whole: true, value: arm.n, set: (v) => set("n")(Math.round(v)) }),
      slider({ name: "arm.every", label: "Days between doses", low: 1, high: 365, log: true, whole: true, value: arm.every, set: set("every") }));
  }
  return h("fieldset", { class: "arm", style: `--arm: ${config.colours[0]}` }, h("legend", {}, "Infusions"), parts);
}

function sizeForm() {
  const e = options.endpoints[choices.endpoint];
  return [
    h("fieldset", {}, h("legend", {}, "Size"),
      slider({ name: "n", label: choices.ratio === "1:1" ? "Patients per arm" : "Patients in the smaller arm", low: options.n[0], high: options.n[1], log: true, whole: true, value: choices.n, set: (v) => put("n", Math.round(v)) }),
      choice({ name: "ratio", label: "Allocation, treated to control", list: options.ratios.map((r) => [r, r]), value: choices.ratio, set: (v) => { put("ratio", v); rebuild = true; refresh(); } })),
    h("fieldset", {}, h("legend", {}, "Endpoint"),
      choice({
        name: "endpoint", label: "Endpoint", value: choices.endpoint,
        list: Object.entries(options.endpoints).map(([name, o]) => [name, o.kind === "log_ratio" ? `${o.label} (ratio)` : o.label]),
        set(v) { put("endpoint", v); delete design.analysis; rebuild = true; refresh(); },
      }),
      choice({ name: "analysis", label: "Analysis", list: e.analyses.map((a) => [a, a]), value: choices.analysis, set: (v) => { put("endpoint", choices.endpoint); put("analysis", v); refresh(); } }),
      slider({ name: "horizon", label: "Last visit", unit: "weeks", low: 2, high: 260, log: true, whole: true, value: choices.horizon / 7, set: (v) => put("horizon", v * 7) }),
      slider({ name: "every", label: "Weeks between visits", low: 1, high: 26, step: 1, value: choices.every / 7, set: (v) => put("every", v * 7) })),
    h("details", {}, h("summary", {}, "Level, interim looks, missing data, seed"),
      h("fieldset", {}, h("legend", {}, "Test"),
        choice({ name: "alpha", label: "Level, two-sided", list: [...new Set([choices.alpha, 0.01, 0.025, 0.05, 0.1, 0.2])].sort((a, b) => a - b).map((a) => [String(a), `${shown(100 * a)} %`]), value: String(choices.alpha), set: (v) => { put("alpha", Number(v)); refresh(); } }),
        choice({ name: "looks", label: "Interim looks", list: Object.entries(options.looks), value: choices.looks, set: (v) => { put("looks", v); refresh(); } })),
      h("fieldset", {}, h("legend", {}, "Missing data"),
        slider({ name: "dropout", label: "Leave, a year", unit: "%", low: 0, high: 60, step: 1, value: 100 * choices.dropout, set: (v) => put("dropout", v / 100) }),
        slider({ name: "death", label: "Die, a year", unit: "%", low: 0, high: 40, step: 0.5, value: 100 * choices.death, set: (v) => put("death", v / 100) }),
        slider({ name: "missed", label: "Visits missed", unit: "%", low: 0, high: 50, step: 1, value: 100 * choices.missed, set: (v) => put("missed", v / 100) })),
      noted("seed", "Seed", null, seedBox())),
  ];
}

function seedBox() {
  const box = h("input", { type: "number", id: "trial-seed", min: options.seed[0], max: options.seed[1], step: 1, value: design.seed ?? 1, "aria-describedby": "trial-seed-problem" });
  box.addEventListener("input", () => {
    if (box.value === "") return;
    put("seed", Math.round(Number(box.value)));
    refresh();
  });
  return box;
}

function build() {
  if (!choices || !options) return;
  const focused = document.activeElement && document.activeElement.id;
  const open = $("#trial-form details") && $("#trial-form details").open;
  fields.clear();
  $("#trial-form").replaceChildren(peopleForm(), armForm(), ...sizeForm());
  if (open) $("#trial-form details").open = true;
  if (focused && document.getElementById(focused)) document.getElementById(focused).focus();
}

function takeOver(place) {
  const arms = pairsOf("explore").filter(([name]) => name === "arm");
  const parts = arms[place][1].split(",");
  const off = parts.length > 5;
  const pairs = pairsOf("explore").filter(([name]) => !["arm", "view"].includes(name));
  if (!pairs.some(([name]) => name !== "horizon")) pairs.push(["disease", "diabetic"]); // the typical patient
  load([...pairs, ["arm", parts.slice(0, 5).join(",")]]);
  if (off) pending.push({ field: "arm", message: "arms of action are switched off on Explore. A trial gives the whole product: all act here." });
}

// ---------------------------------------------------------------- asking and answering

/** Take a design from names and values, as an address has them. */
function load(pairs) {
  given = pairs;
  ask("trial_form", { pairs }, { quick: false });
}

function takeForm(answer) {
  if (!answer.design) {
    if (answer.problems) complain(answer.problems);
    return;
  }
  ({ design, choices, options } = answer);
  pending.push(...answer.problems.map((p) => ({ field: p.field, message: `${p.message} It is left out.` })));
  more = 1;
  build();
  refresh(0);
}

function refresh(wait = CALM) {
  if (!changed) changed = performance.now();
  stop();
  if (latest && design.n) moveMarker();
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    $("#trial").dataset.stage = "asked";
    ask("trial", { design, more });
  }, wait);
}

/** The field that the server's name of one belongs to. */
function home(field) {
  const end = field.split(".").at(-1);
  return [field.replace(/^design\./, ""), `arm.${{ days: "every" }[end] || end}`, { visits: "every" }[field]].find((f) => f && fields.has(f));
}

function take(answer, { asked }) {
  if (answer.problems) {
    mark(answer.problems, home);
    $("#trial-state").textContent = "Not computed: see the marked fields.";
    $("#trial").dataset.stage = "problem";
    changed = 0;
    say(answer.problems.map((p) => p.message).join(" "));
    return;
  }
  if (answer.stage === "design") {
    const before = latest && JSON.stringify(latest.query);
    latest = { ...(latest && latest.line ? { line: latest.line, dots: [], numbers: null, stale: true } : {}), ...answer };
    ({ choices } = answer);
    mark([], home);
    complain(pending.map((p) => ({ field: p.field, message: p.message })));
    pending = [];
    if (rebuild) build();
    rebuild = false;
    $("#trial-who").textContent = choices.patient;
    if (before !== JSON.stringify(answer.query)) forget();
    $("#trial-state").textContent = "The first trials are under way. On a new machine the model is compiled first, for a minute or two.";
    writeAddress();
    drawNotes();
    return;
  }
  if (answer.stage !== "curve") return;
  latest = { ...latest, ...answer, stale: false };
  drawCurve();
  drawFigures();
  drawStrip();
  drawNotes();
  const { done, of } = answer;
  const share = (done.design + done.fixed + done.curve) / (of.design + of.fixed + of.curve);
  const end = share >= 1;
  $("#trial-progress").value = share;
  $("#trial-progress").hidden = end;
  $("#trial-more").disabled = !end || more >= 8;
  $("#trial-state").textContent = `${done.design} of ${of.design} trials of this design, ${done.fixed} of ${of.fixed} at the medians, ${done.curve} of ${of.curve} large ones for the curve.`;
  if (changed) {
    timings.push({ what: "trial", fromChange: performance.now() - changed, fromQuestion: performance.now() - asked });
    changed = 0;
  }
  $("#trial").dataset.stage = end ? "done" : "curve";
  if (end) {
    timings.push({ what: "trial refined", fromQuestion: performance.now() - asked });
    say(`Power is up to date. ${latest.words[0]}`);
  }
  if (!tally.length && !last) askOne(1);
}

// ---------------------------------------------------------------- numbers

const percent = (v, digits = 1) => (v === null || v === undefined || !Number.isFinite(v) ? "–" : `${(100 * v).toFixed(digits)} %`);

function shareText(s) {
  return s && s.n ? [percent(s.value), `95 % interval ${percent(s.low)} to ${percent(s.high)}, of ${s.n} trials`] : ["–", "no trials yet"];
}

const unitOf = () => latest.endpoint.unit;

/** An effect as people read it. */
const effect = (v) => (v === null || v === undefined ? "–" : latest.endpoint.ratio ? shown(v, 3) : together([v], 2)[0]);

function drawFigures() {
  const c = latest.numbers;
  const unit = unitOf();
  const [truth, low, high] = c.truth;
  const rows = [
    ["Assurance", ...shareText(c.assurance)],
    ["Power at the posterior's medians", ...shareText(c.power)],
    ["Type I error", ...shareText(c.type1)],
    ["True effect", effect(truth), `${unit}, median of the worlds; 90 % of them ${effect(low)} to ${effect(high)}`],
    ["Seen with 80 % power", effect(c.detectable), `${unit}: a true effect as large as this`],
    ["Exaggeration when significant", c.exaggeration === null ? "–" : `${shown(c.exaggeration, 2)} times`, c.exaggeration === null ? "fewer than ten significant trials so far" : `estimate over true effect, of about ${Math.round(c.assurance.value * c.assurance.n)} significant trials`],
  ];
  if (c.stops.length) rows.push(["Stop at an interim look", c.stops.map((s) => percent(s.value)).join(", "), `of ${c.assurance.n} trials; ${shown(c.expected_n, 3)} patients expected`]);
  $("#trial-figures").replaceChildren(...rows.map(([name, value, note]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, h("small", {}, note)))));
}

function drawNotes() {
  const notes = [
    // Sentences for a protocol only of all trials that were asked for.
    ...(latest.done && latest.done.design === latest.of.design ? latest.words : []),
    latest.endpoint ? `Estimand: ${latest.endpoint.estimand}.` : null,
    latest.analysis ? `Analysis: ${latest.analysis}.` : null,
    "Curve: expected from the true effect in each trial's world and the standard error of its estimate (normal approximation), with its 95 % Monte-Carlo band. Dots: shares counted in simulated trials with 95 % intervals; dots of the curve share patients.",
    ...(latest.extrapolated || []),
    latest.failed,
  ].filter(Boolean);
  $("#trial-notes").replaceChildren(...notes.map((t) => h("li", {}, t)));
  $("#trial-provenance").textContent = [`mscrenal ${latest.version || config.version}`, `scenario_hash ${latest.hash || ""}`, `seed ${latest.seed}`, `draws ${latest.draws}`].join(" · ");
}

// ---------------------------------------------------------------- power by size

const sizeAxis = () => (choices.ratio === "1:1" ? "Patients per arm" : "Patients in the smaller arm");

function reading(n) {
  const { line } = latest;
  const at = line.n.findIndex((v) => v >= n);
  if (at <= 0) return line.mid[Math.max(0, at)];
  const w = Math.log(n / line.n[at - 1]) / Math.log(line.n[at] / line.n[at - 1]);
  return line.mid[at - 1] * (1 - w) + line.mid[at] * w;
}

const designN = () => design.n ?? choices.n;

/** The curve hardly depends on the size that it was found with: the mark moves at once, the trials follow. */
function moveMarker() {
  if (!latest.line) return;
  const n = designN();
  const shape = $("#trial-curve .plot");
  if (shape.data) drawCurve();
  $("#trial-state").textContent = `${n} patients: about ${percent(reading(n))} by the curve; their own trials follow.`;
}

function drawCurve() {
  const { line, dots } = latest;
  const n = designN();
  const edge = { x: line.n, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
  const counted = dots.filter((d) => d.assurance.n);
  const bars = (list, key) => ({
    type: "data", symmetric: false, array: list.map((d) => d[key].high - d[key].value), arrayminus: list.map((d) => d[key].value - d[key].low), thickness: 1.2, width: 3,
  });
  const dotTrace = (list, key, name, colour, symbol, size) => ({
    x: list.map((d) => d.n), y: list.map((d) => d[key].value), name, mode: "markers", marker: { color: colour, symbol, size }, error_y: { ...bars(list, key), color: colour },
    customdata: list.map((d) => `${percent(d[key].low)} to ${percent(d[key].high)}, ${d[key].n} trials`), hovertemplate: "%{y:.1%} (%{customdata})",
  });
  const mine = counted.filter((d) => d.design);
  const sized = counted.filter((d) => !d.design && d.assurance.n >= ENOUGH && !mine.some((m) => m.n === d.n));
  // Beside the dots of assurance, and without bars, which would cross theirs; the hover and the table have the intervals.
  const typeOne = dotTrace([...sized, ...mine], "type1", "Type I error, counted", NEUTRAL, "x", 7);
  typeOne.x = typeOne.x.map((v) => v * 1.03);
  delete typeOne.error_y;
  const traces = [
    { ...edge, y: line.low },
    { ...edge, y: line.high, fill: "tonexty", fillcolor: "rgba(0,114,178,0.15)" },
    { x: line.n, y: line.mid, name: "Assurance, expected", mode: "lines", line: { color: GOOD, width: 2 }, customdata: line.low.map((v, k) => `${percent(v)} to ${percent(line.high[k])}`), hovertemplate: "%{y:.1%} (%{customdata})" },
    dotTrace(sized, "assurance", "Assurance, counted", GOOD, "circle", 7),
    dotTrace(mine, "assurance", "this design, counted", "#222222", "diamond", 10),
    typeOne,
    { x: [line.n[0], line.n.at(-1)], y: [choices.alpha, choices.alpha], name: `level ${shown(100 * choices.alpha)} %`, mode: "lines", line: { dash: "dash", width: 1, color: NEUTRAL }, hoverinfo: "skip" },
  ].filter((t) => !t.name || t.x.length);
  // From zero on, and no higher than there is something to see.
  const most = Math.max(...line.high.filter((v) => v !== null), ...[...sized, ...mine].flatMap((d) => [d.assurance.value, d.type1.value]), ...mine.map((d) => d.assurance.high));
  const top = [0.25, 0.5, 1].find((t) => t >= Math.min(1, most)) || 1;
  const ceiling = latest.numbers && latest.numbers.in_favour.value;
  const across = (y, dash, colour) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { dash, width: 1, color: colour } });
  const shapes = [
    ...(top === 1 && ceiling !== null ? [across(ceiling, "dot", GOOD)] : []),
    { type: "line", x0: n, x1: n, yref: "paper", y0: 0, y1: 1, line: { dash: "dash", width: 1, color: "#222222" } },
  ];
  const note = (text, x, y, more_) => ({ text, x, y, showarrow: false, font: { size: 11, color: "#444444" }, ...more_ });
  const annotations = [
    note(`${n}`, Math.log10(n), 1, { yref: "paper", yanchor: "bottom", font: { size: 12, color: "#222222" } }),
    ...(top === 1 && ceiling !== null ? [note(`${percent(ceiling, 0)} of worlds have an effect in favour: the ceiling`, 0, ceiling, { xref: "paper", xanchor: "left", yanchor: "top" })] : []),
  ];
  const ticks = [5, 10, 20, 50, 100, 200, 300];
  const shape = layout({
    height: 330,
    x: { title: sizeAxis(), type: "log", range: [Math.log10(3.7), Math.log10(330)], tickvals: ticks, ticktext: ticks.map(String), hoverformat: "d" },
    y: { title: "Share of trials that are significant", range: [0, top], tickformat: ".0%" },
    shapes, annotations, showlegend: true,
    legend: { orientation: "h", y: -0.22, yanchor: "top", x: 0, font: { size: 11 } },
    margin: { l: 62, r: 12, t: 24, b: 42 },
  });
  const words = `Probability of a significant result in favour by size: about ${percent(reading(n))} with ${n} patients, ${percent(line.mid.at(-1))} with ${line.n.at(-1)}. The numbers are below the plot.`;
  draw($("#trial-curve .plot"), traces, shape, words);
  fillCurve();
}

function curveRows() {
  const { line } = latest;
  const sizes = [...new Set([...latest.dots.map((d) => d.n), 5, 10, 20, 50, 100, 200, 300])].sort((a, b) => a - b);
  const of = (list, n) => {
    const at = line.n.findIndex((v) => v >= n);
    if (at <= 0) return list[Math.max(0, at)];
    const w = Math.log(n / line.n[at - 1]) / Math.log(line.n[at] / line.n[at - 1]);
    return list[at - 1] * (1 - w) + list[at] * w;
  };
  return sizes.map((n) => ({ n, mid: of(line.mid, n), low: of(line.low, n), high: of(line.high, n), dots: latest.dots.filter((d) => d.n === n) }));
}

function fillCurve() {
  const box = $("#trial-curve .numbers");
  if (!box.open) return;
  const text = (s) => (s && s.n ? `${percent(s.value)} (${percent(s.low)} to ${percent(s.high)}), ${s.n}` : "–");
  const rows = curveRows().map((r) => {
    const dot = r.dots.find((d) => d.design) || r.dots[0];
    return [`${r.n}${dot && dot.design ? ", this design" : ""}`, `${percent(r.mid)} (${percent(r.low)} to ${percent(r.high)})`, text(dot && dot.assurance), text(dot && dot.type1)];
  });
  box.replaceChildren($("summary", box), table("Share of significant trials by size; in brackets 95 % Monte-Carlo intervals, then trials", [sizeAxis(), "Assurance, expected", "Assurance, counted", "Type I error, counted"], rows));
}

// ---------------------------------------------------------------- one trial

function forget() {
  stop();
  tally = [];
  last = null;
  $("#trial-tally").textContent = "";
  $("#trial-finding").textContent = "";
}

function askOne(n) {
  if (tally.length >= MOST_TALLY) {
    stop();
    $("#trial-tally").textContent = `${tallyWords()} More than ${MOST_TALLY} are not drawn here.`;
    return;
  }
  oneAsked = performance.now();
  for (const id of ["trial-draw", "trial-draw-more"]) $(`#${id}`).setAttribute("aria-busy", "true");
  ask("trial_one", { design, first: tally.length, n, world }, { quick: false });
}
let oneAsked = 0;

function takeOne(answer) {
  if (answer.problems) {
    stop();
    complain(answer.problems);
  }
  if (answer.trials) {
    // Of a tally that was begun anew meanwhile nothing is kept.
    if (answer.trials[0].number !== tally.length || (answer.trials[0].draw === -1) !== (world === "medians")) return;
    tally.push(...answer.trials);
    last = answer.last;
    if (oneAsked) timings.push({ what: "one trial", fromQuestion: performance.now() - oneAsked });
    oneAsked = 0;
    drawOne();
    drawStrip();
    $("#trial-one").dataset.drawn = String(tally.length);
  }
  if (answer.end) {
    for (const id of ["trial-draw", "trial-draw-more"]) $(`#${id}`).removeAttribute("aria-busy");
    if (playing) timer = setTimeout(() => { if (playing) askOne(1); }, PACE);
    else if (tally.length) say(`${findingWords()} ${tallyWords()}`);
  }
}

function play() {
  playing = true;
  $("#trial-play").textContent = "Pause";
  askOne(1);
}

function stop() {
  playing = false;
  clearTimeout(timer);
  if ($("#trial-play")) $("#trial-play").textContent = "Again and again";
}

function findingWords() {
  const f = tally.at(-1);
  if (!f) return "";
  const verdict = f.in_favour ? "significant in favour of the treatment" : f.against ? "significant against the treatment" : "not significant";
  if (f.effect === null) return `Trial ${f.number + 1}: too few patients with data for an estimate.`;
  const p = f.p < 0.001 ? "p < 0.001" : `p = ${f.p.toFixed(3)}`;
  const reached = last.arms[0].reached === null ? "" : ` ${latest.endpoint.kind === "event" ? "Events" : "Responders"}: ${last.arms.map((a) => `${a.reached} of ${a.n} on ${a.name}`).join(", ")}.`;
  return `Trial ${f.number + 1}: estimate ${effect(f.effect)} (95 % CI ${effect(f.low)} to ${effect(f.high)}) ${unitOf()}, ${p}: ${verdict}. True effect in its patients ${effect(f.truth)}; ${f.analysed} patients analysed.${reached}`;
}

/** 95 % interval of a share (Wilson). */
function wilson(k, n) {
  const z = 1.959964;
  const p = k / n;
  const middle = (p + (z * z) / (2 * n)) / (1 + (z * z) / n);
  const reach = (z * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n))) / (1 + (z * z) / n);
  return [Math.max(0, middle - reach), Math.min(1, middle + reach)];
}

function tallyWords() {
  const n = tally.length;
  if (!n) return "";
  const good = tally.filter((t) => t.in_favour);
  const against = tally.filter((t) => t.against).length;
  const [low, high] = wilson(good.length, n);
  const mean = (list) => {
    const known = list.filter((v) => v !== null);
    if (!known.length) return null;
    return latest.endpoint.ratio ? Math.exp(known.reduce((s, v) => s + Math.log(v), 0) / known.length) : known.reduce((s, v) => s + v, 0) / known.length;
  };
  const sized = good.length ? ` Mean estimate of those in favour ${effect(mean(good.map((t) => t.effect)))}, mean true effect in them ${effect(mean(good.map((t) => t.truth)))}.` : "";
  return `Of ${n} ${n === 1 ? "trial" : "trials"} so far, ${good.length} significant in favour (${percent(good.length / n)}, 95 % interval ${percent(low)} to ${percent(high)}), ${against} against.${sized}`;
}

function drawOne() {
  const weeks = last.days.map((d) => d / 7);
  const span = weeks.at(-1);
  const looks = [
    { colour: config.ink, faint: "rgba(34,34,34,0.13)", symbol: "circle", dash: "solid" },
    { colour: GOOD, faint: "rgba(0,114,178,0.16)", symbol: "square", dash: "dash" },
  ];
  const traces = [];
  last.arms.forEach((arm, a) => {
    const x = [];
    const y = [];
    for (const patient of arm.patients) {
      x.push(...weeks, null);
      y.push(...patient, null);
    }
    traces.push({ x, y, mode: "lines", line: { color: looks[a].faint, width: 1 }, hoverinfo: "skip", showlegend: false, connectgaps: false });
  });
  last.arms.forEach((arm, a) => {
    const known = arm.mean.map((m, k) => ({ m, low: arm.low[k] ?? m, high: arm.high[k] ?? m }));
    traces.push({
      x: weeks.map((w) => w + (a ? 1 : -1) * span * 0.006), y: arm.mean, name: `${arm.name} (${arm.n})`, mode: "lines+markers", line: { color: looks[a].colour, width: 2, dash: looks[a].dash }, marker: { symbol: looks[a].symbol, size: 6 },
      error_y: { type: "data", symmetric: false, array: known.map((k) => k.high - k.m), arrayminus: known.map((k) => k.m - k.low), color: looks[a].colour, thickness: 1.3, width: 3 },
      customdata: known.map((k, v) => `${shown(k.low)} to ${shown(k.high)}; ${arm.there[v]} patients`), hovertemplate: "%{y:.4~g} (%{customdata})",
    });
  });
  const decades = [-3, -2, -1, 0, 1, 2, 3, 4].flatMap((d) => [1, 3].map((m) => Number((m * 10 ** d).toPrecision(1))));
  const shape = layout({
    height: 320,
    x: { title: "Weeks from the first dose", range: [-0.03 * span, 1.03 * span] },
    y: { title: `${last.label}, ${last.unit}`, ...(last.log ? { type: "log", tickvals: decades, ticktext: decades.map(String) } : {}) },
    showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 } }, margin: { l: 62, r: 12, t: 34, b: 42 },
    hovermode: "closest", uirevision: undefined,
  });
  draw($("#trial-data .plot"), traces, shape, `Readings of trial ${tally.at(-1).number + 1} by visit: ${last.arms.map((a) => `${a.name} from ${shown(a.mean[0])} to ${shown(a.mean.at(-1))}`).join("; ")}. The numbers are below the plot.`);
  const f = tally.at(-1);
  $("#trial-data h3").textContent = `Trial ${f.number + 1}: means with 95 % CI, and ${last.arms.some((a) => a.patients.length < a.n) ? `the first ${last.arms[0].patients.length}` : "all"} patients of each arm`;
  $("#trial-finding").textContent = findingWords();
  fillData();
}

function fillData() {
  const box = $("#trial-data .numbers");
  if (!box.open || !last) return;
  const rows = last.days.map((d, k) => [shown(d / 7), ...last.arms.map((a) => `${banded([a.mean[k], a.low[k], a.high[k]], { sign: false })}; ${a.there[k]}`)]);
  box.replaceChildren($("summary", box), table(`${last.label}, ${last.unit}: ${last.log ? "geometric mean" : "mean"} (95 % CI); patients`, ["Week", ...last.arms.map((a) => a.name)], rows));
}

/** Estimates pile up: each dot is a trial. */
function drawStrip() {
  const known = tally.filter((t) => t.effect !== null);
  $("#trial-tally").textContent = tallyWords();
  if (!latest || !latest.numbers || !latest.endpoint) return;
  const { ratio, none, better } = latest.endpoint;
  const scale = ratio ? Math.log : (v) => v;
  const back = ratio ? Math.exp : (v) => v;
  const c = latest.numbers;
  const ends = [...c.estimate.slice(1), none, ...c.truth.slice(1)].filter((v) => v !== null && v > (ratio ? 0 : -Infinity)).map(scale);
  const reach = 1.35 * Math.max(...ends.map((v) => Math.abs(v - scale(none))), 1e-6);
  const width = (2 * reach) / 60;
  const inside = (v) => Math.min(reach - width / 2, Math.max(-reach + width / 2, v - scale(none)));
  const height = new Map();
  const dots = known.map((t) => {
    const bin = Math.floor(inside(scale(t.effect)) / width);
    height.set(bin, (height.get(bin) || 0) + 1);
    return { x: back((bin + 0.5) * width + scale(none)), y: height.get(bin), t };
  });
  const most = Math.max(8, ...height.values());
  const group = (name, colour, symbol, test) => {
    const mine = dots.filter(({ t }) => test(t));
    return { x: mine.map((d) => d.x), y: mine.map((d) => d.y), name, mode: "markers", marker: { color: colour, symbol, size: most > 20 ? 4 : 7 }, text: mine.map(({ t }) => `trial ${t.number + 1}: ${effect(t.effect)} (${effect(t.low)} to ${effect(t.high)}), p ${t.p < 0.001 ? "< 0.001" : t.p.toFixed(3)}`), hovertemplate: "%{text}<extra></extra>" };
  };
  const newest = dots.at(-1);
  const traces = [
    group("not significant", NEUTRAL, "circle", (t) => !t.in_favour && !t.against),
    group("significant in favour", GOOD, "diamond", (t) => t.in_favour),
    group("significant against", BAD, "x", (t) => t.against),
  ].filter((t) => t.x.length);
  if (newest) {
    const cut = (v) => (v === null ? newest.x : back(Math.min(reach, Math.max(-reach, scale(v) - scale(none))) + scale(none)));
    traces.push({ x: [cut(newest.t.low), cut(newest.t.high)], y: [newest.y, newest.y], mode: "lines", line: { color: "#222222", width: 1.5 }, name: "95 % CI of the newest", hoverinfo: "skip" });
  }
  const truth = world === "medians" ? c.truth_fixed : c.truth[0];
  const shapes = [
    ...(world === "own" && c.truth[1] !== null ? [{ type: "rect", x0: c.truth[1], x1: c.truth[2], yref: "paper", y0: 0, y1: 1, line: { width: 0 }, fillcolor: "rgba(230,159,0,0.22)", layer: "below" }] : []),
    { type: "line", x0: none, x1: none, yref: "paper", y0: 0, y1: 1, line: { width: 1, color: "#8a8a8a" } },
    ...(truth !== null ? [{ type: "line", x0: truth, x1: truth, yref: "paper", y0: 0, y1: 1, line: { width: 2, dash: "dash", color: "#b36b00" } }] : []),
  ];
  const at = (v) => (ratio ? Math.log10(v) : v);
  const annotations = truth === null ? [] : [{ text: `true effect ${effect(truth)}`, x: at(truth), yref: "paper", y: 1, yanchor: "bottom", showarrow: false, font: { size: 11, color: "#7a4a00" }, xanchor: truth >= none ? "left" : "right" }];
  const ticks = [0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1, 1.2, 1.4, 2, 3, 5, 10, 20].filter((r) => Math.abs(Math.log(r)) < reach);
  const kept = ticks.length > 8 ? ticks.filter((r) => [0.1, 0.2, 0.5, 1, 2, 5, 10].includes(r)) : ticks;
  const e = options.endpoints[latest.endpoint.name];
  const shape = layout({
    height: 320,
    x: { title: `Estimate, ${e.unit} (${better} is better)`, ...(ratio ? { type: "log", range: [-reach, reach].map((v) => v / Math.LN10), tickvals: kept, ticktext: kept.map(String) } : { range: [-reach, reach] }) },
    y: { title: "Trials", range: [0, most * 1.08 + 0.5], tickformat: "d", nticks: 6 },
    shapes, annotations, showlegend: true, hovermode: "closest", uirevision: undefined,
    legend: { orientation: "h", y: -0.22, yanchor: "top", x: 0, font: { size: 11 } }, margin: { l: 52, r: 12, t: 24, b: 42 },
  });
  draw($("#trial-strip .plot"), traces, shape, `Estimates of the trials drawn so far, with the true effect marked. ${tallyWords()} The numbers are below the plot.`);
  $("#trial-strip h3").textContent = `${e.label}: estimates of the trials so far`;
  const box = $("#trial-strip .numbers");
  if (box.open) {
    box.replaceChildren($("summary", box), table(`The newest trials: ${e.label}, ${e.unit}`, ["Trial", "Estimate (95 % CI)", "p", "True effect", "Outcome"],
      tally.slice(-20).reverse().map((t) => [String(t.number + 1), `${effect(t.effect)} (${effect(t.low)} to ${effect(t.high)})`, t.p === null ? "–" : t.p < 0.001 ? "< 0.001" : t.p.toFixed(3), effect(t.truth), t.in_favour ? "in favour" : t.against ? "against" : "not significant"])));
  }
}

// ---------------------------------------------------------------- files

function head() {
  return `# ${config.disclaimer}\r\n# mscrenal ${latest.version}, scenario_hash ${latest.hash}, seed ${latest.seed}, draws ${latest.draws}\r\n# address: ${location.origin}${window.mscrenal.address()}\r\n`;
}

function curveData() {
  const rows = [["what", "n_smaller_arm", "n_arm", "n_reference", "share", "low95", "high95", "trials"]];
  const { line, dots, sizes } = latest;
  const [control, treated] = sizes;
  const smaller = Math.min(control, treated);
  line.n.forEach((n, k) => rows.push(["assurance, expected", n, Math.round((n * treated) / smaller), Math.round((n * control) / smaller), line.mid[k], line.low[k], line.high[k], latest.numbers.assurance.n]));
  for (const d of dots) {
    for (const [key, name] of [["assurance", "assurance, counted"], ["type1", "type I error, counted"]]) rows.push([`${name}${d.design ? ", this design" : ""}`, d.n, d.n_arm, d.n_reference, d[key].value, d[key].low, d[key].high, d[key].n]);
  }
  const { power } = latest.numbers;
  rows.push(["power at the medians, counted, this design", smaller, treated, control, power.value, power.low, power.high, power.n]);
  return head() + csv(rows);
}

function tallyData() {
  const rows = [["trial", "draw", "effect", "low95", "high95", "p", "true_effect", "significant", "n_analysed"]];
  for (const t of tally) rows.push([t.number, t.draw, t.effect, t.low, t.high, t.p, t.truth, t.in_favour ? "in favour" : t.against ? "against" : "no", t.analysed]);
  return `${head()}# endpoint: ${latest.endpoint.label}, ${latest.endpoint.unit}\r\n${csv(rows)}`;
}

// ---------------------------------------------------------------- the tab

function panel(id, title, file, fill, extra = null) {
  return h("figure", { class: "panel", id },
    h("figcaption", {}, h("h3", {}, title), extra,
      ["png", "svg"].map((format) => h("button", { type: "button", class: "quiet", "aria-label": `${title} as ${format.toUpperCase()}`, onclick: () => savePicture($(".plot", document.getElementById(id)), format, file) }, format.toUpperCase()))),
    h("div", { class: "plot" }),
    h("details", { class: "numbers", ontoggle: () => { if (latest && latest.line) fill(); } }, h("summary", {}, "Numbers")));
}

function skeleton() {
  const worlds = h("select", { id: "trial-world" }, h("option", { value: "own" }, "each trial in a world of its own (assurance)"), h("option", { value: "medians" }, "all in the posterior's medians (power)"));
  worlds.value = world;
  worlds.addEventListener("change", () => { world = worlds.value; forget(); writeAddress(); askOne(1); });
  $("#panel-trial").replaceChildren(
    h("h1", { class: "visually-hidden" }, "Trial"),
    h("div", { class: "trial", id: "trial" },
      h("form", { id: "trial-form", "aria-label": "Design of the trial", onsubmit: (e) => e.preventDefault() }),
      h("div", { class: "results" },
        h("div", { class: "bar" },
          h("p", { id: "trial-state", class: "state" }, "Computing."),
          h("progress", { id: "trial-progress", max: 1, value: 0, "aria-label": "Trials done" }),
          h("div", { class: "files" },
            h("button", { type: "button", id: "trial-more", disabled: true, title: "Twice as many trials: the Monte-Carlo error falls by 30 %", onclick: () => { more = Math.min(8, more * 2); refresh(0); } }, "More trials"),
            h("button", { type: "button", id: "trial-csv", onclick: () => { if (latest && latest.line) saveText("mscrenal-power.csv", curveData(), "text/csv"); } }, "Data"),
            h("button", { type: "button", id: "trial-file", title: "This design as a file for mscrenal trial", onclick: () => ask("trial_file", { design }, { quick: false }) }, "Scenario file"))),
        h("dl", { class: "figures", id: "trial-figures" }),
        panel("trial-curve", "Assurance and type I error by size", "mscrenal-power", fillCurve),
        h("section", { class: "one", id: "trial-one", "aria-labelledby": "trial-one-title" },
          h("h2", { id: "trial-one-title" }, "One trial of this design"),
          h("div", { class: "draws" },
            h("button", { type: "button", class: "primary", id: "trial-draw", onclick: () => { stop(); askOne(1); } }, "Draw another"),
            h("button", { type: "button", id: "trial-play", hidden: still.matches, onclick: () => (playing ? stop() : play()) }, "Again and again"),
            h("button", { type: "button", id: "trial-draw-more", onclick: () => { stop(); askOne(25); } }, "25 at once"),
            h("button", { type: "button", id: "trial-anew", onclick: () => { forget(); askOne(1); } }, "Start anew"),
            h("button", { type: "button", id: "trial-tally-csv", onclick: () => { if (tally.length) saveText("mscrenal-trials.csv", tallyData(), "text/csv"); } }, "Data"),
            h("label", { for: "trial-world" }, "Worlds:"), worlds),
          h("p", { class: "finding", id: "trial-finding" }),
          h("p", { class: "tally", id: "trial-tally" }),
          h("div", { class: "panels two" },
            panel("trial-data", "Means with 95 % CI, and patients", "mscrenal-one-trial", fillData),
            panel("trial-strip", "Estimates of the trials so far", "mscrenal-estimates", drawStrip))),
        h("details", { class: "notes", open: true }, h("summary", {}, "What this says, and what it rests on"), h("ul", { id: "trial-notes" }), h("p", { class: "note", id: "trial-provenance" })))));
  still.addEventListener("change", () => { $("#trial-play").hidden = still.matches; if (still.matches) stop(); });
  document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); });
}

function takePairs(pairs) {
  const wanted = pairs.find(([name]) => name === "world");
  if (wanted) {
    if (["own", "medians"].includes(wanted[1])) world = wanted[1];
    else pending.push({ field: "world", message: `given ${JSON.stringify(wanted[1].slice(0, 40))}. Allowed: own, medians. It is left out.` });
  }
  $("#trial-world").value = world;
  load(pairs.filter(([name]) => name !== "world" && name !== "view"));
}

register("trial", {
  start(pairs) {
    skeleton();
    onAnswer("trial_form", takeForm);
    onAnswer("trial", take);
    onAnswer("trial_one", takeOne);
    onAnswer("trial_file", (answer) => {
      if (answer.problems) complain(answer.problems);
      if (answer.file) saveText(answer.file, answer.text, answer.type);
    });
    takePairs(pairs);
  },
  take: takePairs,
  pairs() {
    return [...(latest?.query || given), ...(world === "own" ? [] : [["world", world]])];
  },
  shown() {
    build(); // what Explore holds may have changed
    for (const plot of document.querySelectorAll("#panel-trial .plot")) if (plot.data) window.Plotly.Plots.resize(plot);
  },
});
