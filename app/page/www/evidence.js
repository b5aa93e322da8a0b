// Evidence: every study, what becomes of its rows, and published numbers beside predicted ones. Fitted rows, held-out ones and
// those that were only compared are told apart throughout: only what was held out tests the model.
import {
  $, ask, complain, complainOfAddress, draw, h, layout, onAnswer, register, saveText, say, shown, table, writeAddress,
} from "./core.js";

const FILTERS = { role: "Role", species: "Species", product: "Product", disease: "Simulated disease", endpoint: "Endpoint" };
const LOOK = { // colours of Okabe and Ito; filled, open and diamond are told apart in grey, too
  validate: { colour: "#D55E00", inside: "circle", outside: "x" },
  calibrate: { colour: "#0072B2", inside: "circle-open", outside: "x-open" },
  check: { colour: "#8a4f7d", inside: "diamond-open", outside: "diamond-x-open" },
};
const REACH = 4; // half-widths of the 90 % interval that a forest shows; what lies beyond stands at its edge
const FOREST_PAGE = 40, LIST_PAGE = 20;
const NARROW = 620; // pixels below which labels stand above their lines
const SHOWN = { studies: "Studies", forest: "Forest plots", scatter: "Observed against predicted" };

let view = { search: "", role: "", species: "", product: "", disease: "", endpoint: "", show: "studies", by: "product", study: "" };
let query = [];
let all = null; // what came once: studies, predicted rows, choices
let latest = null;
let opened = null; // the study that is open
let place = 0; // page of the list or of the forest
let scale = ""; // axis of the scatter

// ---------------------------------------------------------------- asking

function refresh({ keepPlace = false } = {}) {
  if (!keepPlace) place = 0;
  ask("evidence", { view, everything: !all });
}

function take(answer) {
  if (answer.problems) {
    complain(answer.problems, "evidence");
    $("#evidence-state").textContent = "Not shown: see above.";
    $("#evidence").dataset.stage = "failed";
    return;
  }
  if (!answer.counts) return;
  complain([], "evidence");
  if (answer.all_studies) {
    all = answer;
    $("#evidence-stamp").textContent = `Predictions computed with ${Object.entries(answer.stamp).map(([k, v]) => `${k} ${v}`).join(" · ")}`;
  }
  latest = answer;
  query = answer.query;
  if (answer.view) { // of an address
    view = answer.view;
    build();
    complainOfAddress(answer.address);
  }
  writeAddress();
  drawAll();
  if (!view.study) closeStudy();
  else if (opened?.key !== view.study) ask("evidence_study", { study: view.study }, { quick: false });
  $("#evidence").dataset.stage = "done";
}

// ---------------------------------------------------------------- filters

function build() {
  const search = h("input", { type: "search", id: "evidence-search", maxlength: 100, value: view.search, placeholder: "author, drug, DOI, word of a note" });
  search.addEventListener("input", () => { view = { ...view, search: search.value }; refresh(); });
  const controls = Object.entries(FILTERS).map(([name, label]) => {
    const select = h("select", { id: `evidence-${name}` }, h("option", { value: "" }, "any"), all.choices[name].map(([value, words]) => h("option", { value }, words)));
    select.value = view[name];
    select.addEventListener("change", () => { view = { ...view, [name]: select.value }; refresh(); });
    return h("div", { class: "control" }, h("label", { for: `evidence-${name}` }, label), select);
  });
  $("#evidence-form").replaceChildren(
    h("fieldset", {}, h("legend", {}, "Filters"),
      h("div", { class: "control" }, h("label", { for: "evidence-search" }, "Search"), search), controls,
      h("button", { type: "button", id: "evidence-clear", onclick: () => { view = { ...view, search: "", role: "", species: "", product: "", disease: "", endpoint: "" }; build(); refresh(); } }, "Clear filters"),
      h("dl", { id: "evidence-roles", class: "roles" })));
  for (const value of Object.keys(SHOWN)) $(`#evidence-show-${value}`).checked = view.show === value;
  $("#evidence-by").value = view.by;
}

// ---------------------------------------------------------------- counts and coverage

function coverageTable(found, caption) {
  const share = (inside, n, [mid, low, high]) => `${inside} of ${n}: ${Math.round(100 * mid)} % (${Math.round(100 * low)} to ${Math.round(100 * high)} %)`;
  return table(caption, ["Rows", "Inside the 90 % interval", "Inside the 50 % interval", "RMS z"],
    found.map((c) => [
      `${c.words}, ${c.rows} ${c.rows === 1 ? "row" : "rows"} of ${c.studies} ${c.studies === 1 ? "study" : "studies"}`,
      share(c.inside90, c.rows, c.share90), share(c.inside50, c.rows, c.share50), c.z_rms.toFixed(2),
    ]));
}

const coverageWords = (found) => found.map((c) => `${c.words.replace(" (in-sample)", "")} ${c.inside90}/${c.rows}`).join(", ");

function drawCounts() {
  const c = latest.counts;
  $("#evidence-state").textContent = `${c.studies} of ${c.of_studies} studies, ${c.rows} of ${c.of_rows} rows, ${c.predicted} of them beside a prediction.`;
  say($("#evidence-state").textContent);
  $("#evidence-roles").replaceChildren(...Object.entries(latest.roles).map(([role, n]) => h("div", {}, h("dt", {}, h("span", { class: `chip ${role}` }, role), ` ${n}`), h("dd", {}, all.role_words[role]))));
  $("#evidence-coverage").replaceChildren(latest.coverage.length
    ? coverageTable(latest.coverage, "How many published numbers of this selection lie inside their predictions, with the share and its 90 % interval, as of independent rows. Fitted rows are in-sample; only held-out studies test the model.")
    : h("p", { class: "note" }, "None of these rows is predicted by the model: the studies below say why."));
}

// ---------------------------------------------------------------- the list

function pager(total, size, words) {
  const last = Math.max(0, Math.ceil(total / size) - 1);
  place = Math.min(place, last);
  if (!last) return null;
  const go = (step) => { place = Math.min(last, Math.max(0, place + step)); drawView(); $("#evidence-view").scrollIntoView({ block: "start" }); };
  return h("nav", { class: "pager", "aria-label": `Pages of ${words}` },
    h("button", { type: "button", class: "earlier", disabled: place === 0, onclick: () => go(-1) }, "Previous"),
    h("span", {}, `Page ${place + 1} of ${last + 1}`),
    h("button", { type: "button", class: "later", disabled: place === last, onclick: () => go(1) }, "Next"));
}

function drawStudies() {
  const list = latest.studies.map((k) => all.all_studies[k]);
  const pages = pager(list.length, LIST_PAGE, "studies");
  const items = list.slice(place * LIST_PAGE, (place + 1) * LIST_PAGE).map((s) => h("li", {},
    h("p", { class: "who" },
      h("button", { type: "button", class: "open", "aria-pressed": String(view.study === s.key), onclick: () => openStudy(s.key) }, s.key),
      Object.entries(s.roles).map(([role, n]) => h("span", { class: `chip ${role}` }, `${role} ${n}`)),
      s.predicted ? h("span", { class: "note" }, `${s.predicted} beside a prediction`) : null),
    h("p", {}, s.citation),
    h("p", { class: "note" }, [s.species.join(", "), s.disease.slice(0, 4).join(", ") + (s.disease.length > 4 ? " …" : ""), s.given.join(", ")].filter(Boolean).join(" · ")),
    h("p", { class: "why" }, s.reason)));
  $("#evidence-view").replaceChildren(
    items.length ? h("ul", { class: "study-list" }, items) : h("p", {}, "No study fits all filters. Clear one of them."), pages || "");
}

// ---------------------------------------------------------------- forest plots

const cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);
const said = (r) => `${shown(r.observed)} for ${shown(r.predicted)} (${shown(r.low90)} to ${shown(r.high90)})${r.unit ? ` ${r.unit}` : ""}`;
const hover = (r) => [
  `<b>${r.key}</b>: ${r.label}`, `${all.predicted_as[r.role]}; ${r.inside90 ? "inside" : "outside"} the 90 % interval, z ${shown(r.z, 2)}`,
  `published ${shown(r.observed)}${r.observed_low === null ? "" : ` (${shown(r.observed_low)} to ${shown(r.observed_high)})`} ${r.unit}`,
  `predicted ${shown(r.predicted)}; 50 %: ${shown(r.low50)} to ${shown(r.high50)}; 90 %: ${shown(r.low90)} to ${shown(r.high90)}`,
].join("<br>");

/** Lines of a forest: headings and rows, one below the other. */
function forestLines(groups) {
  return groups.flatMap((g) => [{ heading: g.name, more: `inside 90 %: ${coverageWords(g.coverage)}` }, ...g.rows.map((k) => ({ row: all.all_rows[k] }))]);
}

const clamp = (x) => Math.max(-REACH + 0.08, Math.min(REACH - 0.08, x));

/** Draw lines of a forest; each row is measured in half-widths of its own 90 % interval, as units differ. */
function drawForest(plot, lines, what, alone = false) {
  const width = plot.clientWidth || 900;
  const narrow = width < NARROW;
  const tall = narrow ? 38 : 21;
  const left = narrow ? 8 : Math.min(400, width * 0.36), right = narrow ? 8 : Math.min(340, width * 0.31);
  const size = 11;
  const fits = (pixels) => Math.floor(pixels / (size * 0.56)); // characters of a proportional font
  const rows = lines.map((line, y) => ({ ...line, y })).filter((line) => line.row);
  const bars = { x: [], y: [] };
  for (const { row, y } of rows) {
    bars.x.push(Math.max(-REACH, row.place.low50), Math.min(REACH, row.place.high50), null);
    bars.y.push(y, y, null);
  }
  const traces = [{ type: "scatter", mode: "lines", ...bars, line: { color: "#a3a3a3", width: 8 }, hoverinfo: "skip", name: "50 % of the prediction (grey ground: 90 %)" }];
  for (const [role, look] of Object.entries(LOOK)) {
    const mine = rows.filter(({ row }) => row.role === role);
    if (!mine.length) continue;
    const ends = { x: [], y: [] };
    for (const { row, y } of mine) {
      if (row.place.observed_low === null || row.place.observed_high === null) continue;
      ends.x.push(clamp(row.place.observed_low), clamp(row.place.observed_high), null);
      ends.y.push(y, y, null);
    }
    traces.push({ type: "scatter", mode: "lines", ...ends, line: { color: look.colour, width: 1.4 }, hoverinfo: "skip", showlegend: false, name: `${role} interval` });
    for (const inside of [true, false]) {
      const these = mine.filter(({ row }) => row.inside90 === inside);
      if (!these.length) continue;
      traces.push({
        type: "scatter", mode: "markers", x: these.map(({ row }) => clamp(row.place.observed)), y: these.map(({ y }) => y),
        marker: {
          color: look.colour, size: 9, line: { width: 1.6, color: look.colour },
          symbol: these.map(({ row }) => (Math.abs(row.place.observed) > REACH ? (row.place.observed > 0 ? "triangle-right" : "triangle-left") : look[inside ? "inside" : "outside"])),
        },
        customdata: these.map(({ row }) => row.key), text: these.map(({ row }) => hover(row)), hovertemplate: "%{text}<extra></extra>",
        name: `${all.predicted_as[role]}, ${inside ? "inside" : "outside"} 90 %`,
      });
    }
  }
  const annotations = [];
  lines.forEach((line, y) => {
    const common = { showarrow: false, yref: "y", y, font: { size, color: "#222222" } };
    if (line.heading) {
      annotations.push({ ...common, text: narrow ? `<b>${cut(line.heading, fits(width - 20))}</b><br>${cut(line.more, fits((width - 16) * 1.12))}` : `<b>${line.heading}</b>, ${line.more}`, align: "left", xref: "paper", x: 0, xanchor: "left", xshift: -left + 4, yanchor: "middle", bgcolor: "#ffffff" });
      return;
    }
    const label = alone ? line.row.label : `${line.row.key}: ${line.row.label}`;
    if (narrow) annotations.push({ ...common, text: cut(label, fits(width - 16)), xref: "paper", x: 0, xanchor: "left", yshift: 16 });
    else {
      annotations.push({ ...common, text: cut(label, fits(left - 12)), xref: "paper", x: 0, xanchor: "right", xshift: -6 });
      annotations.push({ ...common, text: cut(said(line.row), fits(right - 12)), xref: "paper", x: 1, xanchor: "left", xshift: 6, font: { size, color: "#595959" } });
    }
  });
  const names = traces.filter((t) => t.showlegend !== false).length;
  const top = 19 * names + 16;
  const shape = layout({
    x: { title: narrow ? "Distance from the median [half 90 % widths]" : "Distance from the predictive median [half-widths of the 90 % interval]", range: [-REACH, REACH], dtick: 1, fixedrange: true },
    y: { title: "", range: [lines.length - 0.4, -0.7], showticklabels: false, ticks: "", showgrid: false, fixedrange: true },
    height: lines.length * tall + top + 56,
    margin: { l: left, r: right, t: top, b: 46, autoexpand: false },
    hovermode: "closest",
    annotations,
    shapes: [
      { type: "rect", xref: "x", x0: -1, x1: 1, yref: "paper", y0: 0, y1: 1, fillcolor: "#ececec", line: { width: 0 }, layer: "below" },
      { type: "line", xref: "x", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, line: { color: "#8a8a8a", width: 1 }, layer: "below" },
    ],
    showlegend: true,
    legend: { orientation: "v", x: (6 - left) / Math.max(1, width - left - right), xanchor: "left", y: 1, yanchor: "bottom", font: { size }, itemclick: false, itemdoubleclick: false },
    uirevision: undefined,
  });
  shape.yaxis.title = undefined;
  plot.style.minHeight = `${shape.height}px`;
  const outside = rows.filter(({ row }) => !row.inside90);
  draw(plot, traces, shape, `Forest plot of ${what}: ${rows.length} published numbers, each beside its prediction; ${outside.length ? `outside the 90 % interval: ${outside.map(({ row }) => `${row.key} ${row.label}`).slice(0, 8).join("; ")}${outside.length > 8 ? " and more" : ""}` : "none outside the 90 % interval"}. The numbers are in the table below.`);
  plot.removeAllListeners?.("plotly_click");
  plot.on("plotly_click", (event) => {
    const key = event.points[0]?.customdata;
    if (key) openStudy(key);
  });
}

function numbersTable(rows, caption) {
  return table(caption, ["Row", "Predicted as", "Published (90 % interval)", "Predicted (90 % interval)", "50 % interval", "Unit", "z"],
    rows.map((r) => [`${r.key}: ${r.label}`, all.predicted_as[r.role],
      r.observed_low === null ? shown(r.observed) : `${shown(r.observed)} (${shown(r.observed_low)} to ${shown(r.observed_high)})`,
      `${shown(r.predicted)} (${shown(r.low90)} to ${shown(r.high90)})`, `${shown(r.low50)} to ${shown(r.high50)}`, r.unit, shown(r.z, 2)]));
}

function pictures(plot, name) {
  return ["png", "svg"].map((format) => h("button", {
    type: "button", class: "quiet", "aria-label": `The plot as ${format.toUpperCase()}`,
    onclick: () => window.Plotly.downloadImage($(plot), { format, filename: name, width: $(plot).clientWidth, height: $(plot)._fullLayout.height, scale: format === "png" ? 2 : 1 }),
  }, format.toUpperCase()));
}

function drawForests() {
  if (!latest.rows.length) {
    $("#evidence-view").replaceChildren(h("p", {}, "None of these rows is predicted by the model."));
    return;
  }
  const every = forestLines(latest.groups);
  const pages = pager(every.length, FOREST_PAGE, "the forest plot");
  const from = place * FOREST_PAGE;
  let lines = every.slice(from, from + FOREST_PAGE);
  if (lines[0].row) { // a group that began on the page before
    const { heading, more } = every.slice(0, from).findLast((l) => l.heading);
    lines = [{ heading: `${heading} (continued; counts of the whole group)`, more }, ...lines];
  }
  if (lines.at(-1).heading && lines.length > 1) lines = lines.slice(0, -1); // its rows are on the next page, below its name again
  const plot = h("div", { class: "plot forest", id: "evidence-forest" });
  $("#evidence-view").replaceChildren(
    h("figure", { class: "panel" },
      h("figcaption", {}, h("h3", {}, `Published numbers in their predictions, by ${view.by}`), pictures("#evidence-forest", `mscrenal-forest-${view.by}`)),
      h("p", { class: "note" }, "Units differ, so each row is measured in half-widths of its own 90 % interval, on the scale on which it is compared. Thin lines: the published number's 90 % interval by its standard error, where one is printed. Triangles lie beyond the axis. Beside each row: published for predicted (90 % interval). Choose a mark to open its study."),
      plot,
      h("details", { class: "numbers" }, h("summary", {}, "Numbers"), numbersTable(lines.filter((l) => l.row).map((l) => l.row), "Published and predicted numbers of this page of the plot"))),
    pages || "");
  drawForest(plot, lines, `rows by ${view.by}`);
}

// ---------------------------------------------------------------- scatter

/** Ticks of a logarithmic axis as whole numbers: 1, 2, 5 of each decade, or decades alone where they are many. */
function logTicks(low, high) {
  const decades = [];
  for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d++) decades.push(d);
  const values = decades.flatMap((d) => (decades.length > 4 ? [1] : [1, 2, 5]).map((m) => m * 10 ** d)).filter((v) => v >= low && v <= high);
  return { tickmode: "array", tickvals: values, ticktext: values.map((v) => shown(v, 1)) };
}

function drawScatter() {
  if (!latest.scales.length) {
    $("#evidence-view").replaceChildren(h("p", {}, "None of these rows is predicted by the model."));
    return;
  }
  const found = latest.scales.find((s) => s.name === scale) || latest.scales[0];
  const select = h("select", { id: "evidence-scale" }, latest.scales.map((s) => h("option", { value: s.name }, `${s.words}: ${s.rows.length} ${s.rows.length === 1 ? "row" : "rows"}`)));
  select.value = found.name;
  select.addEventListener("change", () => { scale = select.value; drawScatter(); $("#evidence-scale").focus(); });
  const plot = h("div", { class: "plot", id: "evidence-scatter" });
  const rows = found.rows.map((k) => all.all_rows[k]);
  const log = found.log && rows.every((r) => r.observed > 0 && r.low90 > 0);
  const traces = [];
  const values = rows.flatMap((r) => [r.observed, r.predicted]);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (log) [low, high] = [low / 1.6, high * 1.6];
  else { const room = 0.08 * (high - low || 1); [low, high] = [low - room, high + room]; }
  traces.push({ type: "scatter", mode: "lines", x: [low, high], y: [low, high], line: { color: "#8a8a8a", width: 1, dash: "dash" }, hoverinfo: "skip", name: "as predicted" });
  for (const [role, look] of Object.entries(LOOK)) {
    for (const inside of [true, false]) {
      const mine = rows.filter((r) => r.role === role && r.inside90 === inside);
      if (!mine.length) continue;
      traces.push({
        type: "scatter", mode: "markers", x: mine.map((r) => r.predicted), y: mine.map((r) => r.observed),
        error_x: { type: "data", symmetric: false, array: mine.map((r) => r.high90 - r.predicted), arrayminus: mine.map((r) => r.predicted - r.low90), color: look.colour, thickness: 0.7, width: 0 },
        error_y: { type: "data", symmetric: false, array: mine.map((r) => (r.observed_high === null ? 0 : r.observed_high - r.observed)), arrayminus: mine.map((r) => (r.observed_low === null ? 0 : r.observed - r.observed_low)), color: look.colour, thickness: 0.7, width: 0 },
        marker: { color: look.colour, size: 9, symbol: look[inside ? "inside" : "outside"], line: { width: 1.6, color: look.colour } },
        customdata: mine.map((r) => r.key), text: mine.map(hover), hovertemplate: "%{text}<extra></extra>",
        name: `${all.predicted_as[role]}, ${inside ? "inside" : "outside"} 90 %`,
      });
    }
  }
  const range = log ? [Math.log10(low), Math.log10(high)] : [low, high];
  const kind = { type: log ? "log" : "linear", range: [...range], fixedrange: true };
  if (log) Object.assign(kind, logTicks(low, high));
  const narrow = window.innerWidth < NARROW;
  $("#evidence-view").replaceChildren(
    h("div", { class: "control scale" }, h("label", { for: "evidence-scale" }, "Rows that share a unit"), select),
    h("figure", { class: "panel" },
      h("figcaption", {}, h("h3", {}, found.words), pictures("#evidence-scatter", "mscrenal-observed-predicted")),
      plot,
      h("p", { class: "note" }, "Bars: 90 % intervals, across of the prediction and upright of the published number where its standard error is printed; they may run out of the plot. On the dashed line the published number is the predictive median. Choose a mark to open its study."),
      coverageTable(found.coverage, "Coverage of the rows in this plot, told for each kind of them"),
      h("details", { class: "numbers" }, h("summary", {}, "Numbers"), numbersTable(rows, `Published and predicted numbers: ${found.words}`))));
  const shape = layout({
    x: { title: `Predicted median${log ? " (log scale)" : ""}`, ...kind }, y: { title: `Published${log ? " (log scale)" : ""}`, ...kind, range: [...range] },
    height: narrow ? 520 : 560, hovermode: "closest", showlegend: true, uirevision: undefined,
    margin: { l: 66, r: 12, t: narrow ? 120 : 44, b: 46 },
    legend: { orientation: narrow ? "v" : "h", x: 0, y: 1.01, yanchor: "bottom", font: { size: 11 }, itemclick: false, itemdoubleclick: false },
  });
  const word = found.coverage.map((c) => `${c.words}: ${c.inside90} of ${c.rows} inside the 90 % interval`).join("; ");
  draw(plot, traces, shape, `${found.words}: published against predicted numbers. ${word}. The numbers are in the table below.`);
  plot.on("plotly_click", (event) => {
    const key = event.points[0]?.customdata;
    if (key) openStudy(key);
  });
}

function drawView() {
  $("#evidence-group").hidden = view.show !== "forest";
  if (view.show === "studies") drawStudies();
  else if (view.show === "forest") drawForests();
  else drawScatter();
}

function drawAll() {
  drawCounts();
  drawView();
}

// ---------------------------------------------------------------- one study

function openStudy(key) {
  view = { ...view, study: key };
  refresh({ keepPlace: true });
}

function closeStudy() {
  opened = null;
  $("#evidence-study").hidden = true;
  $("#evidence-study").replaceChildren();
}

function takeStudy(answer) {
  if (answer.problems) {
    complain(answer.problems, "evidence");
    return;
  }
  if (!answer.key || answer.key !== view.study) return;
  const coming = opened?.key !== answer.key;
  opened = answer;
  drawStudy();
  if (coming) {
    $("#evidence-study").scrollIntoView({ block: "start" });
    $("#evidence-title").focus({ preventScroll: true });
  }
}

function drawStudy() {
  const s = opened;
  const box = $("#evidence-study");
  box.hidden = false;
  const link = s.address ? h("a", { href: s.address, target: "_blank", rel: "noopener noreferrer" }, s.identifier || s.address) : s.identifier || "no identifier";
  const forest = h("div", { class: "plot forest", id: "evidence-study-forest" });
  const when = (w) => (w === null ? "–" : shown(w));
  box.replaceChildren(
    h("div", { class: "bar" }, h("h2", { id: "evidence-title", tabindex: "-1" }, s.key),
      h("button", { type: "button", id: "evidence-close", onclick: () => { view = { ...view, study: "" }; refresh({ keepPlace: true }); } }, "Close")),
    h("p", {}, `${s.citation} `, h("span", { class: "note" }, "Source: ", link)),
    h("p", {}, s.reason),
    s.held_out_because ? h("p", { class: "note" }, `Held out: ${s.held_out_because}.`) : "",
    s.overlaps.length ? h("p", { class: "note" }, `Shares patients or animals with: ${s.overlaps.join(", ")}.`) : "",
    s.assumed.length ? h("p", { class: "note" }, `Assumed of who is simulated: ${s.assumed.join(", ")}. ${s.assumed_reason}`) : "",
    s.arms.length ? table("Arms as they are simulated", ["Arm", "n", "Who", "Cells", "Drugs"], s.arms.map((a) => [a.name, a.n ?? "–", a.who, a.cells, a.drugs]), { class: "words arms" }) : h("p", { class: "note" }, "Nobody of this study is simulated."),
    s.predicted.length ? h("figure", { class: "panel" }, h("figcaption", {}, h("h3", {}, "Published numbers in their predictions"), pictures("#evidence-study-forest", `mscrenal-${s.key.replaceAll(/\W+/g, "-")}`)), forest) : "",
    s.coverage.length ? coverageTable(s.coverage, "Of this study, inside the prediction; rows of one study are not independent") : "",
    h("div", { class: "tall" }, table("Every row of the study", ["Endpoint", "Arm", "n", "Week", "Published", "Role", "Predicted median (90 %)", "Where it was read", "Why"],
      s.rows.map((r) => [r.endpoint, r.arm, r.n ?? "–", when(r.week), r.what && r.what !== "absolute" ? `${r.published}, ${r.what}` : r.published,
        h("span", { class: `chip ${r.role}` }, r.role),
        r.predicted ? `${shown(r.predicted[0])} (${shown(r.predicted[1])} to ${shown(r.predicted[2])})${r.unit ? ` ${r.unit}` : ""}; published ${shown(r.compared)}, ${r.inside90 ? "inside" : "outside"}` : r.unscored ? `not compared: ${r.unscored}` : "–",
        r.locator || "–", r.reason]), { class: "words wide" })));
  if (s.predicted.length) drawForest(forest, s.predicted.map((row) => ({ row })), `the study ${s.key}`, true);
}

// ---------------------------------------------------------------- the tab

function skeleton() {
  const shows = h("fieldset", { class: "views" }, h("legend", { class: "visually-hidden" }, "What is shown"),
    Object.entries(SHOWN).map(([value, label]) => {
      const box = h("input", { type: "radio", name: "evidence-show", id: `evidence-show-${value}`, value });
      box.checked = view.show === value;
      box.addEventListener("change", () => { view = { ...view, show: value }; refresh(); });
      return [box, h("label", { for: `evidence-show-${value}` }, label)];
    }));
  const by = h("select", { id: "evidence-by" }, ["product", "species", "disease", "endpoint"].map((value) => h("option", { value }, value)));
  by.addEventListener("change", () => { view = { ...view, by: by.value }; refresh(); });
  $("#panel-evidence").replaceChildren(
    h("h1", { class: "visually-hidden" }, "Evidence"),
    h("div", { class: "explore", id: "evidence" },
      h("form", { id: "evidence-form", "aria-label": "Filters", onsubmit: (e) => e.preventDefault() }),
      h("div", { class: "results" },
        h("div", { class: "bar" }, shows,
          h("p", { id: "evidence-group", class: "group", hidden: true }, h("label", { for: "evidence-by" }, "grouped by "), by),
          h("div", { class: "files" }, h("button", { type: "button", id: "evidence-data", title: "The filtered rows as CSV", onclick: () => ask("evidence_file", { view }, { quick: false }) }, "Data"))),
        h("p", { id: "evidence-state", class: "state" }, "Reading the evidence."),
        h("div", { id: "evidence-coverage" }),
        h("section", { id: "evidence-study", class: "notes", "aria-label": "The chosen study", hidden: true }),
        h("div", { id: "evidence-view" }),
        h("details", { class: "notes", open: true }, h("summary", {}, "How to read this"),
          h("ul", {},
            h("li", {}, "Fitted rows are in-sample: the posterior saw them, and the study's own level and potency are known. That they lie inside says that the model can hold them, no more."),
            h("li", {}, "Held-out studies were chosen before anything was fitted and are predicted as new ones: how strongly their cells act, their own level and the residual are drawn anew. Only they test the model."),
            h("li", {}, "Rows that are compared only overlap fitted ones or pool them, or lie where the model is known to have no cause for them. They are predicted as rows of new studies and count neither as a test nor as fitted."),
            h("li", {}, "Where only contrasts within a study count, its first untreated row sets the level and is not compared. Products without data are extrapolated from the spread between products.")),
          h("p", { class: "note", id: "evidence-stamp" })))));
}

function takePairs(pairs) {
  ask("evidence", { pairs, everything: !all }, { quick: false });
}

let resizing = 0;
register("evidence", {
  start(pairs) {
    skeleton();
    onAnswer("evidence", take);
    onAnswer("evidence_study", takeStudy);
    onAnswer("evidence_file", (answer) => {
      if (answer.problems) complain(answer.problems, "evidence");
      if (answer.file) saveText(answer.file, answer.text, answer.type);
    });
    query = pairs;
    takePairs(pairs);
    window.addEventListener("resize", () => {
      clearTimeout(resizing);
      // Margins of a forest follow the width, which Plotly's own resizing does not know.
      resizing = setTimeout(() => { if (latest && !$("#panel-evidence").hidden) { if (view.show === "forest") drawView(); if (opened) drawStudy(); } }, 200);
    });
  },
  take: takePairs,
  pairs: () => query,
  shown() {
    for (const plot of document.querySelectorAll("#panel-evidence .plot")) if (plot.data) window.Plotly.Plots.resize(plot);
  },
});
