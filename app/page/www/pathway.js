// The pathway over time, below the curves of Explore: boxes take the colour of their activity as time goes by.
import { $, ask, complain, h, onAnswer, shown } from "./core.js";

let setup = null;
let names = [];
let arm = 1;
let found = null; // the newest activity
let frame = 0;
let playing = 0;

const SECONDS = 12; // a whole play
const MUTED = "#f7f2ec";
// The diverging colours of the figures: orange more than without cells, blue less; grey-green for what a dose brings.
const LESS = ["#f7f2ec", "#a9cbe6", "#5b9fd4"];
const MORE = ["#f7f2ec", "#f0bd86", "#de8a34"];
const LEVEL = ["#f7f7f2", "#b9d8b0", "#4f9b52"];

function mix(scale, share) {
  const at = Math.min(0.999, Math.max(0, share)) * (scale.length - 1);
  const k = Math.floor(at);
  const part = (hex, c) => parseInt(hex.slice(1 + 2 * c, 3 + 2 * c), 16);
  const channel = (c) => Math.round(part(scale[k], c) + (at - k) * (part(scale[k + 1], c) - part(scale[k], c)));
  return `rgb(${channel(0)},${channel(1)},${channel(2)})`;
}

const percent = (log2) => (2 ** log2 - 1) * 100;
const largest = () => Math.max(1e-6, ...Object.values(found.fold).flat().map(Math.abs));

function paint() {
  if (!found) return;
  const most = largest();
  for (const node of $("#explore-pathway").querySelectorAll(".node")) {
    const name = node.dataset.name;
    let colour = MUTED;
    if (name in found.fold) {
      const v = found.fold[name][frame];
      colour = mix(v > 0 ? MORE : LESS, Math.abs(v) / most);
    } else if (name in found.level) colour = mix(LEVEL, found.level[name][frame]);
    node.style.setProperty("--heat", colour);
    // Names of the dark boxes are white: on the colour of an activity they are not legible.
    node.classList.add("heated");
  }
  const day = found.days[frame];
  const when = day < 28 ? `day ${shown(day, 2)}` : `week ${shown(day / 7, 3)}`;
  $("#pathway-when").textContent = when;
  const range = $("#pathway-time");
  range.value = frame;
  range.setAttribute("aria-valuetext", when);
  const changes = Object.entries(found.fold).map(([name, v]) => [name, v[frame]]).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 6).filter(([, v]) => Math.abs(v) > 1e-4);
  $("#pathway-changes").textContent = changes.length
    ? `Furthest from no cells: ${changes.map(([name, v]) => `${labelOf(name)} ${v > 0 ? "+" : ""}${shown(percent(v), 2)} %`).join(", ")}.`
    : "Nothing differs from no cells yet.";
}

function labelOf(name) {
  const node = $("#explore-pathway").querySelector(`[data-name="${CSS.escape(name)}"]`);
  return node ? node.getAttribute("aria-label").split(":")[0] : name;
}

function stop() {
  cancelAnimationFrame(playing);
  playing = 0;
  $("#pathway-play").textContent = "Play";
}

function play() {
  if (playing) {
    stop();
    return;
  }
  const last = found.days.length - 1;
  if (frame >= last) frame = 0;
  const from = performance.now() - (frame / last) * SECONDS * 1000;
  $("#pathway-play").textContent = "Pause";
  const step = (now) => {
    const next = Math.min(last, Math.floor(((now - from) / (SECONDS * 1000)) * last));
    if (next !== frame) {
      frame = next;
      paint();
    }
    if (frame >= last) stop();
    else playing = requestAnimationFrame(step);
  };
  playing = requestAnimationFrame(step);
}

function fresh() {
  if (!setup || !$("#pathway-box").open || !setup.arms.length) return;
  ask("pathway", { setup, arm: Math.min(arm, setup.arms.length), picture: !$("#explore-pathway svg.network") });
}

function take(answer) {
  if (answer.problems) complain(answer.problems, "pathway");
  if (answer.picture) {
    const parsed = new DOMParser().parseFromString(answer.picture, "image/svg+xml").documentElement;
    $("#pathway-picture").replaceChildren(document.importNode(parsed, true));
  }
  if (!answer.fold) return;
  complain([], "pathway");
  found = answer;
  frame = Math.min(frame, found.days.length - 1);
  const range = $("#pathway-time");
  range.max = found.days.length - 1;
  for (const id of ["#pathway-play", "#pathway-time"]) $(id).disabled = false;
  const most = shown(percent(largest()), 2);
  $("#pathway-scale").textContent = `Orange: more than without cells, blue: less, at most ${most} %, at the medians of the posterior (the bands are in the curves above). Green: cells, vesicles and arms of action, as a share of their own largest.`;
  paint();
}

export const pathway = {
  start(element) {
    onAnswer("pathway", take);
    element.append(h("details", { id: "pathway-box", class: "notes", ontoggle: fresh },
      h("summary", {}, "The pathway over time"),
      h("div", { class: "bar" },
        h("label", { for: "pathway-arm" }, "Arm"),
        h("select", { id: "pathway-arm", onchange: (e) => { arm = Number(e.target.value); fresh(); } }),
        h("button", { type: "button", id: "pathway-play", class: "primary", disabled: true, onclick: play }, "Play"),
        h("input", { type: "range", id: "pathway-time", min: 0, max: 60, value: 0, disabled: true, "aria-label": "Time", oninput: (e) => { stop(); frame = Number(e.target.value); paint(); } }),
        h("span", { id: "pathway-when" })),
      h("p", { id: "pathway-changes" }),
      h("div", { id: "pathway-picture", class: "scrolls", tabindex: "0", role: "region", "aria-label": "Picture of the model, coloured by activity" }),
      h("p", { class: "note", id: "pathway-scale" })));
  },
  changed(newSetup, newNames) {
    setup = newSetup;
    if (newNames.join() !== names.join()) {
      names = newNames;
      const select = $("#pathway-arm");
      select.replaceChildren(...names.slice(1).map((n, k) => h("option", { value: String(k + 1) }, n)));
      arm = Math.min(arm, setup.arms.length);
      select.value = String(arm);
    }
    fresh();
  },
};
