// Explore: a patient, up to four arms, and what becomes of eGFR, UACR, cytokines, fibrosis and the cells.
import {
  $, ask, banded, complain, complainOfAddress, config, csv, draw, h, layout, onAnswer, register, savePicture, saveText, say, shown, table,
  timings, writeAddress,
} from "./core.js";
import { controlsOf, tick } from "./controls.js";
import { pathway } from "./pathway.js";

const LETTERS = "ABCD";
const DASHES = ["solid", "dash", "dashdot", "dot", "longdash"]; // no cells, then the arms
const CELLS = "Cells per organ";
const ORGANS = { cells_lung: "#56B4E9", cells_liver: "#E69F00", cells_kidney: "#0072B2", cells_blood: "#D55E00" };

let setup = structuredClone(config.default);
let view = "values"; // or "difference"
let cellsOf = 1; // place of the arm whose cells are shown; 0 is the arm without cells
let latest = null; // the newest answer
let details = null; // what the first answer of it said beside curves
let given = []; // what the address said, until the first answer
let changed = 0; // when the last change was made, until its curve is drawn

const { fields, slider, choice, mark } = controlsOf("explore", () => refresh());

// ---------------------------------------------------------------- the form

const typical = () => config.diseases[setup.disease].typical[setup.species];

/** On a phone the form is kept short, so that curves and sliders are near each other. */
const narrow = () => window.matchMedia("(max-width: 820px)").matches;

const drugWords = () => `Background drugs: ${setup.drugs.join(", ") || "none"}`;

function patientForm() {
  const options = [];
  for (const [name, d] of Object.entries(config.diseases)) {
    for (const species of Object.keys(d.typical)) {
      options.push({ value: `${species}/${name}`, label: species === "human" ? d.title : `${d.title}, ${config.species[species].toLowerCase()}`, group: species === "human" ? "Patients" : "Animals" });
    }
  }
  options.sort((a, b) => (a.group < b.group ? 1 : a.group > b.group ? -1 : 0));
  const parts = [choice({
    name: "disease", label: "Disease", list: options.map((o) => [o.value, o.label, o.group]), value: `${setup.species}/${setup.disease}`,
    set(value) {
      const [species, disease] = value.split("/");
      const kept = setup;
      setup = { ...structuredClone(config.default), horizon: kept.horizon, arms: kept.arms, sex: kept.sex, species, disease };
      for (const name of [...Object.keys(config.covariates), "start_week"]) setup[name] = null;
      Object.assign(setup, typical());
      setup.drugs = species === "human" ? kept.drugs : [];
      build();
      refresh();
    },
  })];
  const known = typical();
  for (const [name, c] of Object.entries(config.covariates)) {
    if (!(name in known) || name === "insulin_share") continue;
    parts.push(slider({ ...c, name, label: c.label, value: setup[name] ?? known[name], set: (v) => { setup[name] = v; } }));
  }
  if ("start_week" in known) {
    parts.push(slider({ name: "start_week", label: "First dose, weeks after the insult", unit: "", low: 0, high: 52, step: 1, value: setup.start_week ?? known.start_week, set: (v) => { setup.start_week = v; } }));
  }
  parts.push(choice({ name: "sex", label: "Sex", list: [["female", "female"], ["male", "male"]], value: setup.sex, set: (v) => { setup.sex = v; refresh(); } }));
  const summary = h("summary", {}, drugWords());
  const drugs = h("details", { class: "drugs" }, summary,
    Object.entries(config.drugs).map(([name, title]) => tick({
      id: `explore-drug-${name}`, label: title, checked: setup.drugs.includes(name),
      set(on) { setup.drugs = on ? [...setup.drugs, name] : setup.drugs.filter((d) => d !== name); summary.textContent = drugWords(); refresh(); },
    })));
  fields.set("drugs", drugs);
  parts.push(drugs);
  parts.push(slider({ name: "horizon", label: "Follow-up", unit: "weeks", low: 4, high: 260, step: 1, log: true, value: setup.horizon, scale: 7, set: (v) => { setup.horizon = v; } }));
  const horizon = parts.pop();
  const [disease, ...rest] = parts;
  return h("fieldset", {}, h("legend", {}, setup.species === "human" ? "Patient" : "Animal"), disease,
    h("details", { class: "covariates", open: !narrow() }, h("summary", {}, "Covariates and drugs"), rest), horizon);
}

function armForm(arm, place) {
  const product = config.products[arm.product];
  const largest = config.largest[setup.species === "human" ? "human" : "animal"][product.kind];
  const at = (name) => `arms.${place}.${name}`;
  const parts = [
    choice({
      name: at("product"), label: "Product", value: arm.product,
      list: Object.entries(config.products).map(([value, p]) => [value, `${value}: ${p.title}`, { cells: "Cells", ev: "Vesicles", medium: "Conditioned medium" }[p.kind]]),
      set(value) {
        const before = product.kind;
        arm.product = value;
        const now = config.products[value];
        if (!now.routes.includes(arm.route)) arm.route = now.routes[0];
        if (now.kind !== before) arm.dose = now.kind === "ev" ? 10 : 1; // a dose of cells says nothing of vesicles
        build();
        refresh();
      },
    }),
    choice({ name: at("route"), label: "Route", value: arm.route, list: product.routes.map((value) => [value, value]), set: (v) => { arm.route = v; refresh(); } }),
    slider({ name: at("dose"), label: "Dose", unit: product.unit, low: 0.01, high: Math.min(largest, 1000), step: 0.01, log: true, value: arm.dose, set: (v) => { arm.dose = v; } }),
    slider({ name: at("n"), label: "Number of doses", unit: "", low: 1, high: config.most_doses, step: 1, value: arm.n, set: (v) => { arm.n = Math.round(v); } }),
    slider({ name: at("every"), label: "Days between doses", unit: "", low: 1, high: 365, step: 1, log: true, value: arm.every, set: (v) => { arm.every = v; } }),
    h("details", { class: "off", open: arm.off.length > 0 || (place === 0 && !narrow()) }, h("summary", {}, "Arms of action"),
      Object.entries(config.actions).map(([name, meaning]) => tick({
        id: `explore-arm${place}-${name}`, label: name, title: meaning, checked: !arm.off.includes(name),
        set(on) { arm.off = on ? arm.off.filter((a) => a !== name) : [...arm.off, name]; refresh(); },
      }))),
  ];
  const remove = setup.arms.length > 1
    ? h("button", { type: "button", class: "quiet", onclick: () => { setup.arms.splice(place, 1); cellsOf = Math.min(cellsOf, setup.arms.length); build(); refresh(); } }, `Remove arm ${LETTERS[place]}`)
    : null;
  return h("fieldset", { class: "arm", style: `--arm: ${config.colours[place]}` }, h("legend", {}, `Arm ${LETTERS[place]}`), parts, remove);
}

function build() {
  fields.clear();
  const focused = document.activeElement && document.activeElement.id;
  $("#explore-form").replaceChildren(
    patientForm(),
    ...setup.arms.map(armForm),
    setup.arms.length < config.most_arms
      ? h("button", { type: "button", id: "explore-add", onclick: () => { setup.arms.push({ ...structuredClone(setup.arms.at(-1) || config.default.arms[0]), off: [] }); build(); refresh(); } }, "Add an arm to compare")
      : h("p", { class: "note" }, `${config.most_arms} arms are the most.`),
  );
  if (focused && document.getElementById(focused)) document.getElementById(focused).focus();
}

// ---------------------------------------------------------------- asking and answering

function refresh() {
  changed = performance.now();
  ask("explore", { setup, view });
}

function take(answer, { asked }) {
  if (answer.problems) {
    mark(answer.problems);
    $("#explore-state").textContent = "Not computed: see the marked fields.";
    say(answer.problems.map((p) => p.message).join(" "));
    return;
  }
  if (answer.end && !answer.stage) return;
  if (answer.stage === "middle") {
    details = answer;
    mark([]);
  }
  latest = { ...details, ...answer };
  if (answer.stage === "middle") writeAddress(); // whose words come with the answer
  drawAll();
  const now = performance.now();
  if (answer.stage === "middle" && changed) {
    timings.push({ what: "explore", fromChange: now - changed, fromQuestion: now - asked });
    changed = 0;
  }
  $("#explore-state").textContent = answer.stage === "middle"
    ? "Curves of the posterior's medians; bands follow."
    : `Medians and 90 % bands over ${answer.draws} of ${answer.of} draws of the posterior.`;
  $("#explore").dataset.stage = answer.stage === "bands" && answer.draws === answer.of ? "done" : answer.stage;
  if (answer.stage === "bands" && answer.draws === answer.of) {
    const words = latest.rows.slice(1).map((r) => `${r.name}: eGFR ${banded(r.endpoints.egfr_change.difference)} against no cells`);
    say(`Curves are up to date. ${words.join("; ")}.`);
  }
  if (answer.stage === "middle") pathway.changed(setup, latest.names);
}

// ---------------------------------------------------------------- plots

const inWeeks = () => setup.horizon >= 56;
const times = () => latest.days.map((d) => (inWeeks() ? d / 7 : d));
const lookOf = (place) => ({ colour: place ? config.colours[place - 1] : config.ink, dash: DASHES[place] });

function withAlpha(colour, alpha) {
  const [r, g, b] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

function bandTraces(x, found, colour, alpha = 0.13) {
  if (!found.low) return [];
  const edge = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
  return [{ ...edge, y: found.low }, { ...edge, y: found.high, fill: "tonexty", fillcolor: withAlpha(colour, alpha) }];
}

function lineTrace(x, found, name, look, width = 2) {
  const custom = found.low ? found.mid.map((_, k) => `${shown(found.low[k])} to ${shown(found.high[k])}`) : undefined;
  return {
    x, y: found.mid, name, mode: "lines", line: { color: look.colour, dash: look.dash, width }, customdata: custom,
    hovertemplate: custom ? "%{y:.4~g} (%{customdata})" : "%{y:.4~g}",
  };
}

function tracesOf(name) {
  const x = times();
  const bands = [];
  const lines = [];
  latest.curves.forEach((arm, place) => {
    if (view === "difference" && place === 0) return;
    const look = lookOf(place);
    if (arm.whole) lines.push(lineTrace(x, arm.whole[name], `${short(place)} with all arms of action`, { colour: withAlpha(look.colour, 0.6), dash: "dot" }, 1.5));
    bands.push(...bandTraces(x, arm.values[name], look.colour));
    lines.push(lineTrace(x, arm.values[name], short(place), look));
  });
  return [...bands, ...lines];
}

const short = (place) => (place ? LETTERS[place - 1] : config.no_cells);

function cellTraces(names) {
  const x = latest.days;
  const arm = latest.curves[Math.min(cellsOf, latest.curves.length - 1)];
  const LEAST = 1; // a logarithmic axis has no zero; less than one cell per kg is none
  const cut = (list) => list && list.map((v) => (v !== null && v >= LEAST ? v : null));
  return names.flatMap((name, k) => {
    const { mid, low, high } = arm.values[name];
    const found = { mid: cut(mid), low: low && low.map((v) => Math.max(v, LEAST)), high: high && high.map((v) => Math.max(v, LEAST)) };
    return [...bandTraces(x, found, ORGANS[name], 0.1), lineTrace(x, found, config.panels.at(-1).labels[name].replace("Cells, ", ""), { colour: ORGANS[name], dash: DASHES[k] })];
  });
}

/** Cells are gone within weeks of the last dose. */
function cellsEnd() {
  const arm = setup.arms[Math.min(cellsOf, setup.arms.length) - 1];
  return Math.min(setup.horizon, arm ? (arm.n - 1) * arm.every + 21 : 21);
}

function drawPanel(panel, figure) {
  const plot = $(".plot", figure);
  const time = inWeeks() ? "Weeks from the first dose" : "Days from the first dose";
  const label = panel.labels[panel.names[0]];
  const unit = panel.unit ? `${panel.unit}` : "";
  const cells = panel.title === CELLS;
  const traces = cells ? cellTraces(panel.names) : tracesOf(panel.names[0]);
  const y = cells
    ? { title: "Cells/kg", type: "log", dtick: 2, exponentformat: "power" }
    : { title: `${view === "difference" ? "Δ " : ""}${label}${unit ? `, ${unit}` : ""}` };
  const x = cells
    ? { title: "Days from the first dose", range: [0, cellsEnd()] }
    : { title: time, range: [0, setup.horizon / (inWeeks() ? 7 : 1)] };
  const shape = layout({ x, y });
  if (cells) Object.assign(shape, { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 } }, margin: { ...shape.margin, t: 26 } });
  draw(plot, traces, shape, words(panel));
  fillNumbers(panel, figure);
}

/** What a panel shows, in a sentence. */
function words(panel) {
  const name = panel.names[0];
  const end = latest.days.length - 1;
  const arms = latest.curves.map((arm, place) => {
    const v = arm.values[name];
    if (view === "difference" && place === 0) return null;
    return v.mid[end] === null ? `${short(place)}: failed` : `${short(place)} ${shown(v.mid[0])} to ${shown(v.mid[end])}`;
  }).filter(Boolean);
  return `${panel.title}: ${panel.labels[name]}${panel.unit ? ` in ${panel.unit}` : ""}${view === "difference" ? ", difference from no cells" : ""}, from the first day to the last. ${arms.join("; ")}. The numbers are below the plot.`;
}

function fillNumbers(panel, figure) {
  const box = $(".numbers", figure);
  if (!box.open) return;
  const places = [0, 0.25, 0.5, 0.75, 1].map((share) => latest.days.reduce((best, d, k) => (Math.abs(d - share * setup.horizon) < Math.abs(latest.days[best] - share * setup.horizon) ? k : best), 0));
  const unit = inWeeks() ? "week" : "day";
  const rows = latest.curves.flatMap((arm, place) => {
    if (view === "difference" && place === 0) return [];
    return panel.names.map((name) => [
      panel.names.length > 1 ? `${short(place)}, ${panel.labels[name]}` : arm.name,
      ...places.map((k) => {
        const v = arm.values[name];
        return banded([v.mid[k], ...(v.low ? [v.low[k], v.high[k]] : [])], { sign: view === "difference" });
      }),
    ]);
  });
  const heads = places.map((k) => `${unit} ${shown(latest.days[k] / (inWeeks() ? 7 : 1))}`);
  box.replaceChildren($("summary", box), table(`${panel.labels[panel.names[0]]}${panel.unit ? `, ${panel.unit}` : ""}`, ["Arm", ...heads], rows));
}

let drawing = 0;
/** Draw what is in view, then the rest; a newer answer takes over in between. Resolves when what is in view is drawn. */
function drawAll() {
  const turn = ++drawing;
  const inView = (figure) => {
    const { top, bottom } = figure.getBoundingClientRect();
    return bottom > 0 && top < window.innerHeight;
  };
  const all = config.panels.map((panel, k) => ({ panel, figure: $(`#explore-panel-${k}`) }));
  const first = all.filter(({ figure }) => inView(figure));
  for (const { panel, figure } of first) drawPanel(panel, figure);
  drawLegend();
  drawTable();
  drawNotes();
  setTimeout(() => {
    for (const { panel, figure } of all) {
      if (turn !== drawing) return;
      if (!first.some((f) => f.figure === figure)) drawPanel(panel, figure);
    }
  }, 0);
}

function swatch(place) {
  const { colour, dash } = lookOf(place);
  const pattern = { solid: "", dash: "7 4", dashdot: "7 3 2 3", dot: "2 3", longdash: "11 4" }[dash];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 34 10");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [key, value] of Object.entries({ x1: 0, x2: 34, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": pattern })) line.setAttribute(key, value);
  svg.append(line);
  return svg;
}

function drawLegend() {
  $("#explore-legend").replaceChildren(...latest.curves.map((arm, place) => {
    const off = place ? setup.arms[place - 1]?.off || [] : [];
    const failed = arm.failed
      ? h("span", { class: "failed" }, arm.values.egfr.mid[0] === null ? ` failed: ${arm.message}` : ` ${arm.failed} draws failed and are left out: ${arm.message}`)
      : null;
    return h("li", {}, swatch(place), " ", arm.name, off.length ? h("em", {}, ` without ${off.join(", ")} (dotted: with)`) : null, failed);
  }));
  const select = $("#explore-cells");
  select.replaceChildren(...latest.curves.map((arm, place) => h("option", { value: String(place) }, arm.name)));
  select.value = String(Math.min(cellsOf, latest.curves.length - 1));
}

function drawTable() {
  const names = Object.keys(config.endpoints);
  const unit = (e, key) => (e[key] ? `, ${e[key]}` : "");
  const rows = latest.rows.flatMap((row, place) => {
    if (place === 0) return [[`${row.name} (own change)`, ...names.map((n) => banded(row.endpoints[n].value))]];
    const out = [[`${row.name}, difference`, ...names.map((n) => banded(row.endpoints[n].difference))]];
    if (setup.arms[place - 1]?.off.length) {
      out.push([`${short(place)} with all arms of action`, ...names.map((n) => banded(row.endpoints[n].whole))]);
      out.push([`${short(place)}: lost by switching off`, ...names.map((n) => banded(row.endpoints[n].lost))]);
    }
    return out;
  });
  const heads = names.map((n) => `${config.endpoints[n].label}${unit(config.endpoints[n], "unit")}`);
  $("#explore-table").replaceChildren(table(
    `At ${inWeeks() ? `${shown(setup.horizon / 7)} weeks` : `${shown(setup.horizon)} days`}: change of the arm without cells, and differences from it (median and 90 % band over draws of the posterior; differences of percentages are percentage points)`,
    ["Arm", ...heads], rows));
}

function drawNotes() {
  $("#explore-extrapolated").replaceChildren(...(latest.extrapolated || []).map((t) => h("li", {}, t)));
  $("#explore-provenance").textContent = Object.entries(latest.provenance || {}).map(([k, v]) => `${k} ${v}`).join(" · ");
}

// ---------------------------------------------------------------- files

function data() {
  const rows = [["arm", "what", "day", "observable", "unit", "median", "q05", "q95"]];
  latest.curves.forEach((arm) => {
    for (const [what, values] of [["as set up", arm.values], ["whole", arm.whole]]) {
      if (!values) continue;
      for (const panel of config.panels) {
        for (const name of panel.names) {
          const v = values[name];
          latest.days.forEach((day, k) => rows.push([arm.name, view === "difference" ? `${what}, difference from ${config.no_cells}` : what, day, name, panel.unit, v.mid[k], v.low ? v.low[k] : "", v.high ? v.high[k] : ""]));
        }
      }
    }
  });
  const head = Object.entries(latest.provenance).map(([k, v]) => `# ${k}: ${v}`).join("\r\n");
  return `# ${config.disclaimer}\r\n${head}\r\n# address: ${location.origin}${window.mscrenal.address()}\r\n${csv(rows)}`;
}

function takeFile(answer) {
  if (answer.problems) complain(answer.problems);
  if (answer.file) saveText(answer.file, answer.text, answer.type);
  if (answer.end) $("#explore-report").removeAttribute("aria-busy");
}

// ---------------------------------------------------------------- the tab

function skeleton() {
  const panels = config.panels.map((panel, k) => h("figure", { class: "panel", id: `explore-panel-${k}` },
    h("figcaption", {}, h("h3", {}, panel.title),
      panel.title === CELLS ? h("select", { id: "explore-cells", "aria-label": "Cells of which arm", onchange: (e) => { cellsOf = Number(e.target.value); drawAll(); } }) : null,
      ["png", "svg"].map((format) => h("button", { type: "button", class: "quiet", "aria-label": `${panel.title} as ${format.toUpperCase()}`, onclick: () => savePicture($(".plot", $(`#explore-panel-${k}`)), format, `mscrenal-${panel.names[0]}`) }, format.toUpperCase()))),
    h("div", { class: "plot" }),
    h("details", { class: "numbers", ontoggle: () => { if (latest) fillNumbers(panel, $(`#explore-panel-${k}`)); } }, h("summary", {}, "Numbers"))));
  const views = h("fieldset", { class: "views" }, h("legend", { class: "visually-hidden" }, "What the curves show"),
    [["values", "Values"], ["difference", `Difference from ${config.no_cells}`]].map(([value, label]) => {
      const box = h("input", { type: "radio", name: "explore-view", id: `explore-view-${value}`, value });
      box.checked = view === value;
      box.addEventListener("change", () => { view = value; refresh(); });
      return [box, h("label", { for: `explore-view-${value}` }, label)];
    }));
  $("#panel-explore").replaceChildren(
    h("h1", { class: "visually-hidden" }, "Explore"),
    h("div", { class: "explore", id: "explore" },
      h("form", { id: "explore-form", "aria-label": "Patient and arms", onsubmit: (e) => e.preventDefault() }),
      h("div", { class: "results" },
        h("div", { class: "bar" }, views,
          h("p", { id: "explore-state", class: "state" }, "Computing."),
          h("div", { class: "files" },
            h("button", { type: "button", id: "explore-data", onclick: () => saveText("mscrenal-curves.csv", data(), "text/csv") }, "Data"),
            h("button", { type: "button", id: "explore-scenario", title: "This set-up as a file for mscrenal compare", onclick: () => ask("explore_file", { setup, kind: "scenario" }, { quick: false }) }, "Scenario file"),
            h("button", { type: "button", id: "explore-report", title: "A report of the comparison, one file to send or print", onclick: (e) => { e.target.setAttribute("aria-busy", "true"); ask("explore_file", { setup, kind: "report" }, { quick: false }); } }, "Report"))),
        h("ul", { id: "explore-legend", class: "legend" }),
        h("div", { class: "panels" }, panels),
        h("div", { id: "explore-table" }),
        h("section", { id: "explore-pathway", "aria-label": "The pathway over time" }),
        h("details", { class: "notes", open: true }, h("summary", {}, "What this rests on"), h("ul", { id: "explore-extrapolated" }), h("p", { class: "note", id: "explore-provenance" })))));
}

function takePairs(pairs) {
  const wanted = pairs.find(([name]) => name === "view");
  const rest = pairs.filter(([name]) => name !== "view");
  given = rest;
  let problem = null;
  if (wanted) {
    if (["values", "difference"].includes(wanted[1])) view = wanted[1];
    else problem = { field: "view", message: `given ${JSON.stringify(wanted[1].slice(0, 40))}. Allowed: values, difference.` };
  }
  for (const value of ["values", "difference"]) {
    if ($(`#explore-view-${value}`)) $(`#explore-view-${value}`).checked = view === value;
  }
  onAnswer("address", (answer) => {
    if (!answer.setup) {
      if (answer.problems) complain(answer.problems);
      return;
    }
    setup = answer.setup;
    build();
    refresh();
    complainOfAddress([...(problem ? [problem] : []), ...answer.problems]);
  });
  ask("address", { pairs: rest }, { quick: false });
}

/** What is set up here, for other tabs. */
export const currentSetup = () => structuredClone(setup);

register("explore", {
  start(pairs) {
    skeleton();
    onAnswer("explore", take);
    onAnswer("explore_file", takeFile);
    pathway.start($("#explore-pathway"));
    takePairs(pairs);
  },
  take: takePairs,
  pairs() {
    return [...(view === "values" ? [] : [["view", view]]), ...(latest?.query || given)];
  },
  shown() {
    for (const plot of document.querySelectorAll("#panel-explore .plot")) if (plot.data) window.Plotly.Plots.resize(plot);
  },
});
