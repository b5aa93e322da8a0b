// Mechanism: the network as a picture. A box or an arrow tells what it rests on; knocked out, it shows what is lost.
import {
  $, ask, banded, complain, complainOfAddress, config, draw, h, layout, onAnswer, register, say, shown, table, writeAddress,
} from "./core.js";
import { currentSetup } from "./explore.js";

let detail = "modules";
let chosen = null; // {node} or {source, target}
let arm = 1; // of what is set up on Explore; 0: no cells
let asked = false; // whether the knock-out is shown
let arrows = [];
let actions = {};
let story = null; // what is said of the chosen one
let found = null; // the newest courses
let setup = null;

const LABELS = { egfr: 1, uacr: 1, fibrosis_area: 1, il6_serum: 1, tnfa_serum: 1, tgfb1_kidney: 1 };
const isAction = () => Boolean(chosen && chosen.node && chosen.node in actions);

// ---------------------------------------------------------------- the picture

function takePicture(answer) {
  if (answer.problems) complain(answer.problems, "mechanism");
  if (!answer.picture) return;
  arrows = answer.arrows;
  actions = answer.actions;
  const parsed = new DOMParser().parseFromString(answer.picture, "image/svg+xml").documentElement;
  const svg = document.importNode(parsed, true);
  $("#mechanism-picture").replaceChildren(svg);
  svg.addEventListener("click", (event) => pick(event.target));
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pick(event.target);
    }
  });
  const list = $("#mechanism-arrow");
  const wanted = chosen && chosen.source ? `${chosen.source}~${chosen.target}` : "";
  list.replaceChildren(h("option", { value: "" }, "choose an arrow …"),
    ...[...arrows].sort((a, b) => a.words.localeCompare(b.words)).map((a) => h("option", { value: `${a.source}~${a.target}` }, a.words)));
  list.value = wanted;
  mark();
}

function pick(target) {
  const edge = target.closest(".edge");
  const node = target.closest(".node");
  if (edge) {
    const { source, target: to, kind } = edge.dataset;
    if (detail === "states") choose({ source, target: to });
    else showBundle(source, to, kind);
  } else if (node) {
    if (detail === "states" || node.dataset.name in actions) choose({ node: node.dataset.name });
    else showModule(node.dataset.name);
  }
}

/** Select boxes and arrows of the picture; fade what has nothing to do with them. */
function mark() {
  for (const e of document.querySelectorAll("#mechanism-picture .selected, #mechanism-picture .faded, #mechanism-picture .cut")) e.classList.remove("selected", "faded", "cut");
  if (!chosen) return;
  const svg = $("#mechanism-picture svg");
  if (!svg) return;
  const touches = (e) => (chosen.node
    ? e.dataset.source === chosen.node || e.dataset.target === chosen.node
    : e.dataset.source === chosen.source && e.dataset.target === chosen.target);
  const ends = new Set(chosen.node ? [chosen.node] : [chosen.source, chosen.target]);
  if (![...svg.querySelectorAll(".node")].some((n) => ends.has(n.dataset.name))) return; // not on this level
  for (const e of svg.querySelectorAll(".edge")) {
    const mine = touches(e);
    e.classList.toggle("faded", !mine);
    e.classList.toggle("selected", mine && !chosen.node);
    e.classList.toggle("cut", mine && !chosen.node && asked);
    if (mine && chosen.node) {
      ends.add(e.dataset.source);
      ends.add(e.dataset.target);
    }
  }
  for (const n of svg.querySelectorAll(".node")) {
    n.classList.toggle("selected", n.dataset.name === chosen.node);
    n.classList.toggle("faded", !ends.has(n.dataset.name));
  }
}

// ---------------------------------------------------------------- what it rests on

function choose(what, { knock = false } = {}) {
  chosen = what;
  asked = knock;
  found = null;
  story = null;
  $("#mechanism-arrow").value = what.source ? `${what.source}~${what.target}` : "";
  mark();
  ask("mechanism_about", what);
  if (asked) askCourse();
  else $("#mechanism-course").replaceChildren();
  writeAddress();
}

const arrowButton = (a) => h("li", {}, h("button", { type: "button", class: "quiet", onclick: () => { setDetail("states"); choose({ source: a.source, target: a.target }); } }, a.words));

/** On the overview an arrow is a bundle: say which arrows between boxes it stands for. */
function showBundle(source, target, kind) {
  const inside = arrows.filter((a) => a.from === source && a.to === target);
  $("#mechanism-about").replaceChildren(
    h("h2", {}, inside.length ? `${inside.length} ${inside.length === 1 ? "arrow" : "arrows"} in this one` : "What is measured"),
    kind === "measured" || !inside.length
      ? h("p", {}, "Dotted lines say what a trial or an experiment measures of a module; they change nothing.")
      : h("ul", { class: "arrows" }, inside.map(arrowButton)));
  $("#mechanism-course").replaceChildren();
}

function showModule(name) {
  const own = arrows.filter((a) => a.from === name && a.to === name);
  const into = arrows.filter((a) => a.to === name && a.from !== name);
  const out = arrows.filter((a) => a.from === name && a.to !== name);
  const node = $(`#mechanism-picture .node[data-name="${CSS.escape(name)}"]`);
  const part = (title, list) => (list.length ? [h("h3", {}, `${title} (${list.length})`), h("ul", { class: "arrows" }, list.map(arrowButton))] : []);
  $("#mechanism-about").replaceChildren(h("h2", {}, node.getAttribute("aria-label").split(":")[0]), h("p", {}, node.getAttribute("aria-label")), ...part("Within", own), ...part("In", into), ...part("Out", out));
  $("#mechanism-course").replaceChildren();
}

function mathOf(step) {
  // MathML from our own program, made of the model's definition.
  const parsed = new DOMParser().parseFromString(step.mathml, "text/html").body;
  return h("div", { class: "equation", tabindex: "0", role: "group", "aria-label": `${step.kind} ${step.name}` }, h("p", { class: "note" }, step.meaning + (step.unit && step.unit !== "1" ? `, ${step.unit}` : "")), ...parsed.childNodes);
}

function doi(reference) {
  return reference.doi ? h("a", { href: `https://doi.org/${encodeURI(reference.doi)}`, rel: "noreferrer", target: "_blank" }, reference.doi) : null;
}

function parameterRow(p) {
  const known = p.posterior
    ? `${shown(p.posterior.median)} (${shown(p.posterior.low)} to ${shown(p.posterior.high)})`
    : "–";
  const before = p.prior_range ? `${shown(p.value)} (${shown(p.prior_range.low)} to ${shown(p.prior_range.high)})` : shown(p.value);
  const references = p.references.map((r) => h("li", {}, `${r.citation || r.study_id}${r.locator ? ` (${r.locator})` : ""} `, doi(r)));
  return [
    h("span", {}, h("code", {}, p.name), p.cuts ? h("em", {}, " cuts the arrow") : null, h("br"), p.meaning),
    p.unit === "1" ? "" : p.unit,
    before,
    known,
    h("span", {}, p.verdict, p.contraction === null ? null : ` (contraction ${shown(p.contraction, 2)})`),
    h("span", {}, p.source, references.length ? h("ul", {}, references) : null),
  ];
}

function takeAbout(answer) {
  if (answer.problems) {
    complain(answer.problems, "mechanism");
    $("#mechanism-about").replaceChildren(h("p", { class: "failed" }, answer.problems.map((p) => p.message).join(" ")));
    return;
  }
  if (!answer.node && !answer.arrow) return;
  complain([], "mechanism");
  story = answer.node || answer.arrow;
  const box = $("#mechanism-about");
  if (answer.node) {
    const n = answer.node;
    const other = (list, out) => h("ul", { class: "arrows" }, list.map((name) => {
      const a = arrows.find((x) => (out ? x.source === n.name && x.target === name : x.target === n.name && x.source === name));
      return a ? arrowButton(a) : null;
    }));
    box.replaceChildren(
      h("h2", {}, n.label),
      h("p", {}, `${n.meaning}${n.unit && n.unit !== "1" ? `, in ${n.unit}` : ""}. Module: ${n.group}.${n.healthy !== null && n.kind === "state" ? ` In health: ${shown(n.healthy)}.` : ""}`),
      n.observables.length ? h("p", {}, `Measured as: ${n.observables.join(", ")}.`) : null,
      ...(isAction() ? [knockButton("Switch this arm of action off")] : []),
      ...n.equations.map(mathOf),
      ...(n.arrows_in.length ? [h("h3", {}, "Arrows in"), other(n.arrows_in, false)] : []),
      ...(n.arrows_out.length ? [h("h3", {}, "Arrows out"), other(n.arrows_out, true)] : []));
  } else {
    const a = answer.arrow;
    box.replaceChildren(
      h("h2", {}, a.meaning),
      a.cut.why_not ? h("p", { class: "note" }, `It cannot be cut: ${a.cut.why_not}.`) : knockButton("Cut this arrow"),
      h("h3", {}, "Equations"),
      ...a.steps.map(mathOf),
      h("h3", {}, "Numbers, sources, and how well they are known"),
      table("Parameters of these equations; ranges are 90 %", ["Parameter", "Unit", "Prior", "Posterior", "Verdict", "Source"], a.parameters.map(parameterRow), { class: "parameters" }));
  }
  say(`${$("h2", box).textContent}.`);
}

function knockButton(words) {
  return h("div", { class: "bar" },
    h("button", { type: "button", id: "mechanism-knock", class: "primary", "aria-pressed": String(asked), onclick: () => { asked = !asked; mark(); writeAddress(); if (asked) askCourse(); else { $("#mechanism-course").replaceChildren(); retitle(); } retitle(); } }, asked ? "Put it back" : words));
}

function retitle() {
  const button = $("#mechanism-knock");
  if (!button) return;
  button.textContent = asked ? "Put it back" : isAction() ? "Switch this arm of action off" : "Cut this arrow";
  button.setAttribute("aria-pressed", String(asked));
}

// ---------------------------------------------------------------- without it

function askCourse() {
  setup = currentSetup();
  arm = Math.min(arm, setup.arms.length);
  const what = isAction() || (chosen.node || "").startsWith("effect_") ? { action: chosen.node } : { source: chosen.source, target: chosen.target };
  ask("mechanism_cut", { setup, arm, ...what });
}

function takeCourse(answer) {
  const box = $("#mechanism-course");
  if (answer.problems) {
    box.replaceChildren(h("p", { class: "failed", role: "alert" }, answer.problems.map((p) => p.message).join(" ")));
    return;
  }
  if (!answer.bands || !asked) return;
  found = { ...found, ...answer };
  if (!$("#mechanism-plots")) courseSkeleton(box);
  box.dataset.stage = answer.stage === "bands" && answer.draws === answer.of ? "done" : answer.stage;
  $("#mechanism-state").textContent = answer.stage === "middle" ? "At the medians of the posterior; bands follow." : `Medians and 90 % bands over ${answer.draws} of ${answer.of} draws of the posterior.`;
  $("#mechanism-notes").replaceChildren(...found.notes.map((n) => h("li", {}, n)), ...(found.failed ? [h("li", { class: "failed" }, `${found.failed} draws failed and are left out of both courses.`)] : []));
  for (const name of Object.keys(LABELS)) drawCourse(name);
  drawSums();
}

function courseSkeleton(box) {
  const options = [h("option", { value: "0" }, config.no_cells), ...setup.arms.map((_, k) => h("option", { value: String(k + 1) }, `Arm ${"ABCD"[k]} of Explore`))];
  const select = h("select", { id: "mechanism-arm", onchange: (e) => { arm = Number(e.target.value); askCourse(); writeAddress(); } }, options);
  select.value = String(arm);
  box.replaceChildren(
    h("h2", {}, "With it and without it"),
    h("div", { class: "bar" }, h("label", { for: "mechanism-arm" }, "Patient and arms as on Explore; shown is"), select, h("p", { class: "state", id: "mechanism-state" })),
    h("ul", { class: "legend" }, h("li", {}, h("span", { class: "key intact" }), " intact"), h("li", {}, h("span", { class: "key without" }), " without it")),
    h("ul", { id: "mechanism-notes", class: "note" }),
    h("div", { class: "panels", id: "mechanism-plots" }, Object.keys(LABELS).map((name) => h("figure", { class: "panel" }, h("figcaption", {}, h("h3", {}, found.labels[name][0])), h("div", { class: "plot", id: `mechanism-plot-${name}` })))),
    h("div", { id: "mechanism-sums" }));
}

function drawCourse(name) {
  const [label, unit] = found.labels[name];
  const weeks = found.days.map((d) => d / 7);
  const looks = { intact: ["#222222", "solid", "34,34,34"], without: ["#D55E00", "dash", "213,94,0"] };
  const bands = [];
  const lines = [];
  for (const [what, [colour, dash, rgb]] of Object.entries(looks)) {
    const v = found.bands[name][what];
    if (v.low) {
      const edge = { x: weeks, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
      bands.push({ ...edge, y: v.low }, { ...edge, y: v.high, fill: "tonexty", fillcolor: `rgba(${rgb},0.13)` });
    }
    lines.push({ x: weeks, y: v.mid, name: what === "intact" ? "intact" : "without it", mode: "lines", line: { color: colour, dash, width: 2 }, hovertemplate: "%{y:.4~g}" });
  }
  const last = weeks.length - 1;
  const end = (what) => banded(["mid", "low", "high"].filter((k) => found.bands[name][what][k]).map((k) => found.bands[name][what][k][last]), { sign: what === "difference" });
  draw($(`#mechanism-plot-${name}`), [...bands, ...lines], layout({ x: { title: "Weeks from day 0", range: [0, weeks[last]] }, y: { title: `${label}${unit ? `, ${unit}` : ""}` } }),
    `${label} over ${shown(weeks[last])} weeks; at the end ${end("intact")} intact and ${end("without")} without it.`);
}

function drawSums() {
  const last = found.days.length - 1;
  const cell = (name, what) => {
    const v = found.bands[name][what];
    return banded([v.mid[last], ...(v.low ? [v.low[last], v.high[last]] : [])], { sign: what === "difference" });
  };
  $("#mechanism-sums").replaceChildren(table(`At ${shown(found.days[last] / 7)} weeks: median and 90 % band`, ["Observable", "Intact", "Without it", "Difference, draw by draw"],
    Object.keys(LABELS).map((name) => [`${found.labels[name][0]}${found.labels[name][1] ? `, ${found.labels[name][1]}` : ""}`, cell(name, "intact"), cell(name, "without"), cell(name, "difference")])));
}

// ---------------------------------------------------------------- the tab

function setDetail(value) {
  if (detail === value && $("#mechanism-picture svg")) return;
  detail = value;
  for (const v of ["modules", "states"]) $(`#mechanism-detail-${v}`).checked = v === value;
  ask("mechanism_picture", { detail });
  writeAddress();
}

function skeleton() {
  const levels = h("fieldset", { class: "views" }, h("legend", { class: "visually-hidden" }, "Level of detail"),
    [["modules", "Overview"], ["states", "All states"]].map(([value, label]) => {
      const box = h("input", { type: "radio", name: "mechanism-detail", id: `mechanism-detail-${value}`, value });
      box.checked = detail === value;
      box.addEventListener("change", () => setDetail(value));
      return [box, h("label", { for: `mechanism-detail-${value}` }, label)];
    }));
  $("#panel-mechanism").replaceChildren(
    h("h1", { class: "visually-hidden" }, "Mechanism"),
    h("div", { class: "bar" }, levels,
      h("label", { for: "mechanism-arrow" }, "Arrow"),
      h("select", { id: "mechanism-arrow", onchange: (e) => { const [source, target] = e.target.value.split("~"); if (target) { setDetail("states"); choose({ source, target }); } } }),
      h("p", { class: "state" }, "Choose a box or an arrow: it tells its equations, numbers and sources, and can be knocked out.")),
    h("div", { class: "mechanism" },
      h("div", { id: "mechanism-picture", class: "scrolls", tabindex: "0", role: "region", "aria-label": "Picture of the model" }),
      h("section", { id: "mechanism-about", class: "card", "aria-label": "What is chosen", "aria-live": "off" }, h("p", {}, "Nothing is chosen yet."))),
    h("section", { id: "mechanism-course", "aria-label": "With it and without it" }));
}

function takePairs(pairs) {
  const said = new Map(pairs);
  const problems = [];
  for (const name of said.keys()) if (!["detail", "arrow", "box", "without", "arm"].includes(name)) problems.push({ field: name, message: "unknown. Allowed: detail, arrow, box, without, arm." });
  const level = said.get("detail");
  if (level !== undefined && !["modules", "states"].includes(level)) problems.push({ field: "detail", message: `given ${JSON.stringify(level.slice(0, 40))}. Allowed: modules, states.` });
  detail = level === "states" || said.has("arrow") || (said.has("box") && !said.get("box").startsWith("effect_")) ? "states" : "modules";
  for (const v of ["modules", "states"]) $(`#mechanism-detail-${v}`).checked = v === detail;
  ask("mechanism_picture", { detail });
  const knock = said.get("without") === "1";
  if (said.has("arm") && /^[0-4]$/.test(said.get("arm"))) arm = Number(said.get("arm"));
  if (said.has("arrow")) {
    const [source, target, more] = said.get("arrow").split("~");
    if (target && more === undefined) choose({ source, target }, { knock });
    else problems.push({ field: "arrow", message: `given ${JSON.stringify(said.get("arrow").slice(0, 60))}. Allowed: source~target, such as ros~nrf2.` });
  } else if (said.has("box")) choose({ node: said.get("box") }, { knock: knock && said.get("box").startsWith("effect_") });
  complainOfAddress(problems);
}

register("mechanism", {
  start(pairs) {
    skeleton();
    onAnswer("mechanism_picture", takePicture);
    onAnswer("mechanism_about", takeAbout);
    onAnswer("mechanism_cut", takeCourse);
    takePairs(pairs);
  },
  take: takePairs,
  pairs() {
    const out = [];
    if (detail !== "modules") out.push(["detail", detail]);
    if (chosen && chosen.source) out.push(["arrow", `${chosen.source}~${chosen.target}`]);
    if (chosen && chosen.node) out.push(["box", chosen.node]);
    if (asked) out.push(["without", "1"]);
    if (asked && arm !== 1) out.push(["arm", String(arm)]);
    return out;
  },
  shown() {
    if (asked && chosen && JSON.stringify(currentSetup()) !== JSON.stringify(setup)) askCourse();
  },
});
