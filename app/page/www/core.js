// What all tabs share: questions and answers, elements, plots, the address, files.
// A question goes out as the Shiny input ask_CHANNEL; answers come back as messages with its number. Of each channel one
// question is under way at a time: while it is, only the newest further one waits.

export const config = JSON.parse(document.getElementById("config").textContent);

// ---------------------------------------------------------------- elements

/** Make an element: h("p", {class: "note"}, "text", child). Text is text, never markup. */
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return made;
}

/** Replace what an element holds; what is null or false is left out. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
}

export const $ = (selector, root = document) => root.querySelector(selector);

/** Text for screen readers; the newest replaces the last. */
export function say(text) {
  $("#said").textContent = text;
}

const complaints = new Map(); // source -> problems

/** Say what is wrong, on top of the page. Each source speaks for itself; with nothing to say it falls silent. */
export function complain(problems, source = "page") {
  complaints.set(source, problems);
  const all = [...complaints.values()].flat();
  const box = $("#complaints");
  box.hidden = !all.length;
  box.replaceChildren(
    ...all.map((p) => h("p", {}, p.field ? h("strong", {}, `${p.field}: `) : null, p.message)),
    h("button", { type: "button", class: "quiet", onclick: () => { complaints.clear(); box.hidden = true; } }, "Close"),
  );
}

/** What the address says wrongly is left out, and said until closed. */
export function complainOfAddress(problems) {
  complain(problems.map((p) => ({ field: `address, ${p.field}`, message: `${p.message} It is left out.` })), "address");
}

// ---------------------------------------------------------------- questions

let number = 0;
const channels = new Map(); // name -> {busy: id or 0, waiting, handler, asked}

function channel(name) {
  if (!channels.has(name)) channels.set(name, { busy: 0, first: false, waiting: null, handler: null });
  return channels.get(name);
}

/** Handle the answers of a channel. */
export function onAnswer(name, handler) {
  channel(name).handler = handler;
}

/**
 * Ask. `quick`: a newer question may go out as soon as the first answer of this one is here (the server lets the rest
 * of the older one go); otherwise it waits for the end of it. Returns the question's number.
 */
export function ask(name, payload, { quick = true } = {}) {
  const c = channel(name);
  const question = { id: ++number, payload, asked: performance.now(), quick };
  if (c.busy && !(c.quick && c.first)) c.waiting = question;
  else send(name, c, question);
  return question.id;
}

function send(name, c, question) {
  Object.assign(c, { busy: question.id, first: false, asked: question.asked, quick: question.quick, waiting: null });
  window.Shiny.setInputValue(`ask_${name}`, { id: question.id, payload: question.payload }, { priority: "event" });
}

function receive(answer) {
  const c = channel(answer.channel);
  if (answer.id !== c.busy) return; // of a question that a newer one has replaced
  c.first = true;
  if (c.handler) c.handler(answer, { asked: c.asked });
  if (answer.end) c.busy = 0;
  if (c.waiting && (answer.end || c.quick)) send(answer.channel, c, c.waiting);
}

/** Resolves once the page is connected to the program. */
export const connected = new Promise((resolve) => {
  function listen() {
    window.Shiny.addCustomMessageHandler("answer", receive);
    window.jQuery(document).on("shiny:disconnected", () => {
      $("#stopped").hidden = false;
    });
    resolve();
  }
  if (window.Shiny && window.Shiny.setInputValue) listen();
  else window.jQuery(document).one("shiny:connected", listen);
});

// ---------------------------------------------------------------- tabs and the address

const tabs = new Map();
export const order = ["explore", "mechanism", "trial", "evidence", "lessons"];
let current = "explore";

/**
 * Register a tab. `start(pairs)`: build it and take what the address says (names and values); called when it is first
 * shown. `pairs()`: what the address has to say of it. `shown()`: it came into view.
 */
export function register(name, tab) {
  tabs.set(name, { started: false, pairs: () => [], shown() {}, ...tab });
}

export function show(name, { focus = false, pairs = [], push = true } = {}) {
  if (!tabs.has(name)) return;
  current = name;
  for (const other of order) {
    const button = $(`#tab-${other}`);
    button.setAttribute("aria-selected", String(other === name));
    button.tabIndex = other === name ? 0 : -1;
    $(`#panel-${other}`).hidden = other !== name;
  }
  if (focus) $(`#tab-${name}`).focus();
  const tab = tabs.get(name);
  if (!tab.started) {
    tab.started = true;
    tab.start(pairs);
  } else if (pairs.length && tab.take) tab.take(pairs);
  tab.shown();
  if (push) writeAddress();
  document.title = `mscrenal: ${$(`#tab-${name}`).textContent}`;
}

/** Go to another tab with a set-up, as a link would: pairs are names and values of its address. */
export function goTo(name, pairs) {
  show(name, { pairs });
  $("#main").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

let writing = 0;
/** Keep the address up to date, a moment later: some browsers bear only few changes a second. */
export function writeAddress() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    history.replaceState(null, "", address());
  }, 250);
}

export function address() {
  const query = new URLSearchParams([["tab", current], ...tabs.get(current).pairs()]);
  // Commas, slashes and tildes need no escape in a query, and the address is meant to be read.
  return `${location.pathname}?${query.toString().replaceAll("%2C", ",").replaceAll("%2F", "/").replaceAll("%7E", "~")}`;
}

export function begin() {
  $("#version").textContent = config.version;
  $("#disclaimer").textContent = config.disclaimer;
  for (const name of order) {
    $(`#tab-${name}`).addEventListener("click", () => show(name));
    $(`#tab-${name}`).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, Home: -order.indexOf(name), End: order.length - 1 - order.indexOf(name) }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      show(order[(order.indexOf(name) + step + order.length) % order.length], { focus: true });
    });
  }
  $("#share").addEventListener("click", async () => {
    const link = new URL(address(), location.href).href;
    history.replaceState(null, "", link);
    let copied = true;
    try {
      await navigator.clipboard.writeText(link);
    } catch {
      copied = false; // the browser keeps the clipboard to itself; the address bar holds it all the same
    }
    $("#share").textContent = copied ? "Copied" : "It is in the address bar";
    say($("#share").textContent);
    setTimeout(() => { $("#share").textContent = "Copy link"; }, 2000);
  });
  const pairs = [...new URLSearchParams(location.search)];
  const wanted = (pairs.find(([name]) => name === "tab") || [])[1] || "explore";
  const known = tabs.has(wanted);
  if (!known) complain([{ field: "address, tab", message: `given ${JSON.stringify(wanted.slice(0, 60))}. Allowed: ${order.join(", ")}. Shown is Explore.` }], "tab");
  show(known ? wanted : "explore", { pairs: pairs.filter(([name]) => name !== "tab"), push: false });
}

// ---------------------------------------------------------------- numbers

/** A number as people read it, with so many significant digits and never an exponent below a million. */
export function shown(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  if (Math.abs(value) >= 1e6) return value.toExponential(Math.max(0, digits - 1)).replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
}

/** Several numbers with the same decimals: enough for two digits of the largest, and one of the first. */
export function together(values, digits = 2) {
  const largest = Math.max(...values.filter((v) => Number.isFinite(v)).map(Math.abs), 1e-9);
  const first = Math.abs(values[0]);
  const ofFirst = first > 0 ? Math.min(2, -Math.floor(Math.log10(first))) : 0; // the first is never rounded away
  const decimals = Math.min(4, Math.max(0, ofFirst, digits - 1 - Math.floor(Math.log10(largest))));
  return values.map((v) => (Number.isFinite(v) ? v.toFixed(decimals).replace(/^-(0(\.0*)?)$/, "$1") : "–"));
}

/** [median, low, high] as text: "+0.2 (0.0 to 1.8)"; a lone median without a band. */
export function banded(found, { sign = true } = {}) {
  if (!found || found[0] === null) return "–";
  const [mid, ...ends] = together(found);
  const signed = sign && found[0] > 0 && Number(mid) !== 0 ? `+${mid}` : mid;
  return ends.length ? `${signed} (${ends[0]} to ${ends[1]})` : signed;
}

// ---------------------------------------------------------------- plots

const FONT = { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", size: 12, color: "#222222" };

/** The layout of a plot, with axis titles: every axis has one. */
export function layout({ x, y, height = 230, ...more }) {
  const axis = { gridcolor: "#e6e6e6", linecolor: "#8a8a8a", ticks: "outside", tickcolor: "#8a8a8a", zeroline: false };
  return {
    height,
    font: FONT,
    paper_bgcolor: "#ffffff",
    plot_bgcolor: "#ffffff",
    margin: { l: 62, r: 12, t: 10, b: 42 },
    showlegend: false,
    hovermode: "x unified",
    hoverlabel: { bgcolor: "#ffffff", font: { ...FONT, size: 11 } },
    uirevision: "kept",
    ...more,
    xaxis: { ...axis, ...x, title: { text: x.title, standoff: 8 } },
    yaxis: { ...axis, ...y, title: { text: y.title, standoff: 6 } },
  };
}

/** Draw or redraw; what it shows in words goes to `label`, for those who do not see it. */
export function draw(element, traces, shape, label) {
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", label);
  return window.Plotly.react(element, traces, shape, { displayModeBar: false, responsive: true, scrollZoom: false });
}

/** Keep a plot as a picture. */
export function savePicture(element, format, filename) {
  return window.Plotly.downloadImage(element, { format, filename, width: 900, height: 560, scale: format === "png" ? 2 : 1 });
}

// ---------------------------------------------------------------- files

export function saveText(filename, text, type = "text/plain") {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` })), download: filename });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Rows of values as CSV; a text with a comma, a quote or a line's end is quoted. */
export function csv(rows) {
  const cell = (v) => (v === null || v === undefined ? "" : /[",\n\r]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : String(v));
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** A table element: headings, then rows; the first cell of a row is its heading. */
export function table(caption, headings, rows, attributes = {}) {
  return h("div", { class: "scrolls", tabindex: "0", role: "region", "aria-label": caption },
    h("table", attributes,
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, headings.map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((c, k) => h(k ? "td" : "th", k ? {} : { scope: "row" }, c)))))));
}

/** Timings, for whoever measures: milliseconds from a change to its drawn curve. */
export const timings = [];
window.mscrenal = { timings, address };

/** What the address would say of a tab, whether or not it is in view: names and values; none before it was first shown. */
export function pairsOf(name) {
  const tab = tabs.get(name);
  return tab && tab.started ? tab.pairs() : [];
}
