// The controls that all forms share: native ones, so that a keyboard and a screen reader work them as anywhere.
import { $, complain, h, shown } from "./core.js";

/**
 * Controls of one form. `prefix` begins their ids; `refresh` is called after a change. `fields` holds the element of each by
 * the name that the server calls it; whoever builds the form anew clears it first.
 */
export function controlsOf(prefix, refresh) {
  const fields = new Map();

  function noted(name, label, unit, ...controls) {
    const id = `${prefix}-${name.replaceAll(".", "-")}`;
    const made = h("div", { class: "control" },
      h("label", { for: id }, label, unit ? h("span", { class: "unit" }, ` ${unit}`) : null), controls,
      h("p", { class: "field-problem", id: `${id}-problem`, hidden: true }));
    fields.set(name, made);
    return made;
  }

  /**
   * A slider and a number that say the same; `log` spreads decades evenly, `whole` keeps to whole numbers. `value` and what
   * `set` gets are in the unit shown, times `scale`.
   */
  function slider({ name, label, unit = "", low, high, step = 1, log = false, whole = false, value, set, scale = 1 }) {
    const id = `${prefix}-${name.replaceAll(".", "-")}`;
    const STEPS = 400;
    const toPlace = (v) => (log ? Math.round((Math.log(Math.max(v, low) / low) / Math.log(high / low)) * STEPS) : v);
    const round = (v) => (whole ? Math.round(v) : Number(v.toPrecision(v < 1 ? 1 : 2)));
    const fromPlace = (p) => (log ? Math.min(high, Math.max(low, round(low * (high / low) ** (p / STEPS)))) : p);
    const range = h("input", {
      type: "range", id: `${id}-range`, "aria-label": unit ? `${label}, ${unit}` : label, min: log ? 0 : low, max: log ? STEPS : high, step: log ? 1 : step,
    });
    const box = h("input", { type: "number", id, min: low, max: high, step: "any", inputmode: "decimal", "aria-describedby": `${id}-problem` });
    const put = (v) => {
      range.value = toPlace(v);
      range.setAttribute("aria-valuetext", `${shown(v)} ${unit}`.trim());
    };
    const take = (v) => {
      range.setAttribute("aria-valuetext", `${shown(v)} ${unit}`.trim());
      set(v * scale);
      refresh();
    };
    put(value / scale);
    box.value = shown(value / scale, 4);
    range.addEventListener("input", () => {
      const v = fromPlace(Number(range.value));
      box.value = shown(v, 4);
      take(v);
    });
    box.addEventListener("input", () => {
      const v = Number(box.value);
      if (box.value === "" || !Number.isFinite(v)) return; // half typed; what is out of bounds the server says
      range.value = toPlace(v);
      take(v);
    });
    return noted(name, label, unit, h("div", { class: "pair" }, range, box));
  }

  /** A list to choose from: [value, label] or [value, label, group] each. `set` decides whether to refresh. */
  function choice({ name, label, list, value, set }) {
    const id = `${prefix}-${name.replaceAll(".", "-")}`;
    const groups = new Map();
    for (const entry of list) groups.set(entry[2] || "", [...(groups.get(entry[2] || "") || []), entry]);
    const option = ([v, text]) => h("option", { value: v }, text);
    const select = h("select", { id, "aria-describedby": `${id}-problem` },
      [...groups].map(([group, entries]) => (group ? h("optgroup", { label: group }, entries.map(option)) : entries.map(option))));
    select.value = value;
    select.addEventListener("change", () => set(select.value));
    return noted(name, label, null, select);
  }

  /**
   * Say at each field what is wrong with it, and nothing at the others; what belongs to no field is said on top of the page.
   * `home` names the field of a problem; by default the longest name that the problem's begins with.
   */
  function mark(problems, home = nearestField) {
    for (const made of fields.values()) {
      const note = $(".field-problem", made);
      if (note) note.hidden = true;
      for (const input of made.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    }
    const homeless = [];
    for (const p of problems) {
      const made = fields.get(home(p.field));
      const note = made && $(".field-problem", made);
      if (!note) {
        homeless.push(p);
        continue;
      }
      note.textContent = p.message;
      note.hidden = false;
      for (const input of made.querySelectorAll("input, select")) input.setAttribute("aria-invalid", "true");
    }
    complain(homeless);
  }

  function nearestField(field) {
    return [...fields.keys()].filter((key) => field === key || field.startsWith(`${key}.`)).sort((a, b) => b.length - a.length)[0];
  }

  return { fields, noted, slider, choice, mark };
}

export function tick({ id, label, checked, set, title }) {
  const box = h("input", { type: "checkbox", id });
  box.checked = checked;
  box.addEventListener("change", () => { set(box.checked); });
  return h("div", { class: "tick" }, box, h("label", { for: id, title }, label));
}
