// Lessons: six guided experiments. The server sends what to draw as plain data (lines, bars, points, intervals), so that
// nothing here knows which lesson it shows; all words come from there as well.
import {
  $, ask, complain, config, csv, draw, goTo, h, layout, onAnswer, register, savePicture, saveText, say, shown, table, timings,
  writeAddress,
} from "./core.js";
import { controlsOf } from "./controls.js";

const { glossary, lessons } = config.lessons;
let number = 1;
let controls = { ...lessons[0].standard };
let plots = new Map(); // id -> the newest plot of this lesson
let answered = null; // lesson whose answers are shown
let changed = 0;
let pending = []; // what was wrong with the address, until the first answer is drawn

const lesson = () => lessons[number - 1];

// ---------------------------------------------------------------- controls

const form = controlsOf("lessons", () => refresh());

const choice = (c) => form.choice({ name: c.name, label: c.label, list: c.options, value: controls[c.name], set: (v) => { controls[c.name] = v; refresh(); } });

const slider = (c) => form.slider({ ...c, whole: c.step >= 1, value: controls[c.name], set: (v) => { controls[c.name] = v; } });

function again(c) {
  return h("div", { class: "control" }, h("button", {
    type: "button", class: "primary", id: `lessons-${c.name}`,
    onclick: () => { controls[c.name] = controls[c.name] >= c.high ? c.low : controls[c.name] + 1; refresh(); },
  }, c.label));
}

// ---------------------------------------------------------------- plots

function withAlpha(colour, alpha) {
  const [r, g, b] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

const wide = (t) => (t.low ? t.mid.map((_, k) => `${shown(t.low[k])} to ${shown(t.high[k])}`) : undefined);

const KINDS = {
  line(t) {
    const edge = { x: t.x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    const band = t.low ? [{ ...edge, y: t.low }, { ...edge, y: t.high, fill: "tonexty", fillcolor: withAlpha(t.colour, 0.11) }] : [];
    return [...band, {
      x: t.x, y: t.mid, name: t.name, mode: "lines", line: { color: t.colour, dash: t.dash, width: 2 }, customdata: wide(t),
      hovertemplate: t.low ? "%{y:.3~g} (%{customdata})" : "%{y:.3~g}",
    }];
  },
  bars: (t) => [{
    type: "bar", x: t.x.map((v) => (typeof v === "string" ? v.replace(/, /, ",<br>") : v)), y: t.mid, name: t.name, width: t.width, marker: { color: withAlpha(t.colour, 0.75), line: { color: t.colour, width: 1 }, pattern: { shape: t.pattern || "", fillmode: "overlay", fgcolor: "#ffffff", fgopacity: 0.8, size: 7 } },
    error_y: t.error ? { array: t.error, color: "#222222", thickness: 1.2, width: 4 } : undefined, hovertemplate: t.error ? "%{y:.0f} ± %{error_y.array:.0f}" : "%{y:.1f}",
  }],
  sideways: (t) => [{
    type: "bar", orientation: "h", y: t.y, x: t.mid, name: t.name, marker: { color: t.colour, line: { color: "#0072B2", width: 1 } }, customdata: wide(t),
    error_x: t.low ? { symmetric: false, array: t.high.map((v, k) => v - t.mid[k]), arrayminus: t.low.map((v, k) => t.mid[k] - v), color: "#222222", thickness: 1.2, width: 4 } : undefined,
    hovertemplate: t.low ? "%{x:.3~g} (%{customdata})" : "%{x:.3~g}",
  }],
  points: (t) => [{
    mode: "markers", x: t.x, y: t.y, name: t.name, marker: { color: t.open ? "rgba(0,0,0,0)" : withAlpha(t.colour, 0.6), size: t.size || 6, line: { color: t.colour, width: 1 } },
    hovertemplate: "%{x:.3~g}, %{y:.3~g}",
  }],
  intervals(t) {
    const of = (list) => t.pick.map((k) => list[k]);
    const at = of(t.x);
    return [{
      mode: "markers", x: at, y: t.pick, name: t.name, customdata: t.pick.map((k) => `${shown(t.low[k])} to ${shown(t.high[k])}`),
      marker: { color: t.open ? "#ffffff" : t.colour, size: 7, symbol: t.symbol || "circle", line: { color: t.colour, width: 1.5 } },
      error_x: { symmetric: false, array: of(t.high).map((v, k) => v - at[k]), arrayminus: of(t.low).map((v, k) => at[k] - v), color: t.colour, thickness: 1.2, width: 0 },
      hovertemplate: "%{x:.3~g} (%{customdata})",
    }];
  },
  ticks: (t) => [{ mode: "markers", x: t.x, y: t.x.map((_, k) => k), name: t.name, marker: { symbol: "line-ns-open", size: 8, color: t.colour, line: { width: 2, color: t.colour } }, hovertemplate: "truth %{x:.3~g}" }],
  upright: () => [], // drawn as a shape
  level: () => [],
};

function shapes(plot) {
  const line = (t) => ({ type: "line", line: { color: t.colour, width: 2, dash: "dot" } });
  return plot.traces.flatMap((t) => (t.kind === "upright"
    ? [{ ...line(t), x0: t.x[0], x1: t.x[0], yref: "paper", y0: 0, y1: 1 }]
    : t.kind === "level" ? [{ ...line(t), y0: t.y[0], y1: t.y[0], xref: "paper", x0: 0, x1: 1 }] : []));
}

/** Entries of the legend are elements of the page: they wrap on a phone, and screen readers read them. */
function legend(plot) {
  const key = { line: "━", bars: "■", sideways: "■", points: "●", intervals: "●", ticks: "┃", upright: "┇", level: "┅" };
  const dashed = { dash: "╍", dot: "┅", dashdot: "╍·", longdash: "━ ━" };
  const entries = plot.traces.filter((t) => !(t.pick && !t.pick.length));
  if (entries.length < 2) return [];
  return entries.map((t) => h("li", {},
    h("span", { class: "key", style: `color: ${t.colour}`, "aria-hidden": "true" }, t.pattern ? { "/": "▨", x: "▩" }[t.pattern] : t.open ? "○" : t.symbol === "diamond" ? "◆" : (t.kind === "line" && dashed[t.dash]) || key[t.kind]), ` ${t.name}`));
}

function drawPlot(plot) {
  const figure = $(`#lessons-plot-${plot.id}`);
  const traces = plot.traces.flatMap((t) => KINDS[t.kind](t));
  const unified = plot.traces.some((t) => t.kind === "line") && !plot.traces.some((t) => ["points", "bars"].includes(t.kind));
  const shape = layout({ x: plot.x, y: plot.y, height: 330, hovermode: unified ? "x unified" : "closest", barmode: "group", shapes: shapes(plot) });
  if (plot.y.automargin) shape.margin = { ...shape.margin, l: 10 };
  shape.uirevision = `${number}`;
  $("h3", figure).textContent = plot.title;
  draw($(".plot", figure), traces, shape, `${plot.title}. ${plot.words} The numbers are in the table below.`);
  $(".legend", figure).replaceChildren(...legend(plot));
  $(".plot-note", figure).textContent = plot.note || "";
}

function drawAll() {
  for (const plot of plots.values()) drawPlot(plot);
  const tables = [...plots.values()].filter((p) => p.table).map((p) => table(p.table.caption, p.table.heads, p.table.rows));
  $("#lessons-tables").replaceChildren(...tables);
}

// ---------------------------------------------------------------- asking and answering

function refresh() {
  changed = performance.now();
  $("#lessons").dataset.stage = "asked";
  ask("lesson", { lesson: lesson().key, controls });
  writeAddress();
}

function take(answer, { asked }) {
  if (answer.problems) {
    complain(answer.problems.map((p) => ({ ...p, field: label(p.field) })));
    $("#lessons-state").textContent = "Not computed: see above.";
    say(answer.problems.map((p) => p.message).join(" "));
    return;
  }
  if (!answer.plots || answer.lesson !== lesson().key) return;
  complain(pending);
  plots = new Map(answer.plots.map((p) => [p.id, p]));
  for (const plot of plots.values()) {
    if (!$(`#lessons-plot-${plot.id}`)) return; // of a lesson that was left
  }
  drawAll();
  if (changed) {
    timings.push({ what: `lesson ${number}`, fromChange: performance.now() - changed, fromQuestion: performance.now() - asked });
    changed = 0;
  }
  const done = answer.stage === "done";
  $("#lessons-state").textContent = answer.stage === "middle"
    ? "At the medians of the posterior; draws follow."
    : lesson().key === "trial" ? `Worlds of ${answer.draws} of ${answer.of} trials simulated by the engine.`
      : `Medians and 90 % bands over ${answer.draws} of ${answer.of} draws of the posterior.`;
  $("#lessons-rests").replaceChildren(...answer.rests.map((t) => h("li", {}, t)));
  $("#lessons-links").replaceChildren(...answer.links.map((l) => h("button", { type: "button", onclick: () => goTo(l.tab, l.pairs) }, l.label)));
  $("#lessons").dataset.stage = answer.stage;
  if (done) {
    pending = [];
    say(answer.plots.map((p) => p.words).join(" "));
    if (answered !== lesson().key) ask("lesson_answers", { lesson: lesson().key }, { quick: false });
  }
}

const label = (field) => lesson().controls.find((c) => c.name === field)?.label || field;

function takeAnswers(answer) {
  if (answer.problems) {
    complain(answer.problems);
    return;
  }
  if (!answer.answers || answer.lesson !== lesson().key) return;
  answered = answer.lesson;
  answer.answers.forEach((a, k) => {
    $(`#lessons-answer-${k}`).replaceChildren(
      h("p", {}, a.found),
      h("dl", {}, [["Data", a.data], ["Assumed by the model", a.assumed], ["In reality", a.reality]].map(([term, text]) => [h("dt", {}, term), h("dd", {}, text)])),
      h("p", { class: "note" }, `Computed now over ${answer.draws} draws, at the settings with which the lesson opens. In brackets: 90 % band.`));
  });
  $("#lessons").dataset.answers = "done";
}

// ---------------------------------------------------------------- files

function data() {
  const rows = [["plot", "name", "x", "y", "low", "high"]];
  for (const plot of plots.values()) {
    for (const t of plot.traces) {
      const xs = t.kind === "sideways" ? t.mid : t.x || [];
      const ys = t.kind === "sideways" ? t.y : t.mid || t.y || [];
      (t.pick || (xs.length ? xs : ys).map((_, k) => k)).forEach((k) => rows.push([plot.title, t.name, xs[k], t.pick ? k : ys[k], t.low?.[k], t.high?.[k]]));
    }
  }
  return `# ${config.disclaimer}\r\n# lesson ${number}: ${lesson().title}\r\n# address: ${location.origin}${window.mscrenal.address()}\r\n${csv(rows)}`;
}

// ---------------------------------------------------------------- the tab

/** Where the plots of a lesson stand, before the first of them is computed. */
const PLOTS = { memory: ["cells", "effect"], translation: ["effect", "factor"], schedule: ["course", "wins"], arms: ["bars", "sum"], trial: ["trials", "width"], early: ["draws", "patients"] };

function build() {
  const l = lesson();
  plots = new Map();
  answered = null;
  for (const other of lessons) {
    const button = $(`#lessons-pick-${other.number}`);
    if (other.number === number) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  const save = (id) => ["png", "svg"].map((format) => h("button", { type: "button", class: "quiet", "aria-label": `${id} as ${format.toUpperCase()}`, onclick: () => savePicture($(".plot", $(`#lessons-plot-${id}`)), format, `mscrenal-lesson-${number}-${id}`) }, format.toUpperCase()));
  delete $("#lessons").dataset.answers;
  $("#lessons-body").replaceChildren(
    h("h2", { id: "lessons-title", tabindex: "-1" }, `${number}. ${l.title}`),
    h("p", { class: "sees" }, h("strong", {}, "What you will see: "), l.sees),
    h("p", {}, l.experiment),
    h("div", { class: "bench" },
      h("form", { class: "lesson-controls", "aria-label": "Controls of the experiment", onsubmit: (e) => e.preventDefault() },
        l.controls.map((c) => (c.options ? choice(c) : c.again ? again(c) : slider(c))),
        h("div", { class: "control" }, h("button", { type: "button", class: "quiet", id: "lessons-reset", onclick: () => go(number, {}) }, "Back to the start")),
        h("p", { class: "state", id: "lessons-state" }, "Computing.")),
      h("div", { class: "lesson-plots" }, PLOTS[l.key].map((id) => h("figure", { class: "panel", id: `lessons-plot-${id}` },
        h("figcaption", {}, h("h3", {}, "Computing"), save(id)),
        h("ul", { class: "legend" }),
        h("div", { class: "plot" }),
        h("p", { class: "note plot-note" }))))),
    h("div", { class: "files lesson-links" }, h("span", { id: "lessons-links", class: "files" }),
      h("button", { type: "button", id: "lessons-data", onclick: () => saveText(`mscrenal-lesson-${number}.csv`, data(), "text/csv") }, "Data")),
    h("details", { class: "numbers" }, h("summary", {}, "Numbers of the plots"), h("div", { id: "lessons-tables" })),
    h("details", { class: "rests" }, h("summary", {}, "What this rests on"), h("ul", { id: "lessons-rests" })),
    h("h3", { class: "questions-title" }, "Questions"),
    h("ol", { class: "questions" }, l.questions.map((q, k) => h("li", {},
      h("p", { class: "asked" }, q.ask),
      h("p", { class: "hint" }, h("strong", {}, "Hint: "), q.hint),
      h("details", { class: "answer" }, h("summary", {}, "Show the answer"), h("div", { id: `lessons-answer-${k}`, "aria-live": "polite" }, h("p", { class: "note" }, "Its numbers are being computed. The experiment comes first.")))))),
    h("nav", { class: "files", "aria-label": "Previous and next lesson" },
      number > 1 ? h("button", { type: "button", onclick: () => go(number - 1, {}, true) }, `Back: ${lessons[number - 2].title}`) : null,
      number < lessons.length ? h("button", { type: "button", onclick: () => go(number + 1, {}, true) }, `Next: ${lessons[number].title}`) : null),
  );
}

function go(wanted, values, top = false) {
  number = wanted;
  controls = { ...lesson().standard, ...values };
  build();
  refresh();
  if (top) {
    $("#lessons-title").focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

function skeleton() {
  $("#panel-lessons").replaceChildren(
    h("h1", { class: "visually-hidden" }, "Lessons"),
    h("div", { id: "lessons" },
      h("nav", { class: "lesson-list", "aria-label": "Lessons" }, h("ol", {}, lessons.map((l) => h("li", {},
        h("button", { type: "button", id: `lessons-pick-${l.number}`, onclick: () => go(l.number, {}) }, `${l.number}. ${l.title}`)))),
      h("details", { class: "glossary" }, h("summary", {}, "Words used here"), h("dl", {}, glossary.map(([term, meaning]) => [h("dt", {}, term), h("dd", {}, meaning)])))),
      h("article", { id: "lessons-body" })));
}

function takePairs(pairs) {
  onAnswer("lesson_address", (answer) => {
    if (!answer.controls) {
      if (answer.problems) complain(answer.problems);
      return;
    }
    pending = answer.problems.map((p) => ({ field: `address, ${p.field}`, message: `${p.message} It is left out.` }));
    go(answer.lesson, answer.controls);
    complain(pending);
  });
  if (pairs.length) ask("lesson_address", { pairs }, { quick: false });
  else go(1, {});
}

register("lessons", {
  start(pairs) {
    skeleton();
    onAnswer("lesson", take);
    onAnswer("lesson_answers", takeAnswers);
    takePairs(pairs);
  },
  take: takePairs,
  pairs() {
    const standard = lesson().standard;
    return [["lesson", String(number)], ...Object.entries(controls).filter(([k, v]) => v !== standard[k]).map(([k, v]) => [k, String(v)])];
  },
  shown() {
    for (const plot of document.querySelectorAll("#panel-lessons .plot")) if (plot.data) window.Plotly.Plots.resize(plot);
  },
});
