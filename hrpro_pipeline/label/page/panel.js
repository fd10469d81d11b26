// Beside the player: classes with their keys, and the points of the video.
import { classes, colorOf, freeKey, isPending, model, pointsOf, spelling, submit, tidyName, KEYS } from "./model.js";
import { clock } from "./player.js";

const $ = (id) => document.getElementById(id);

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export function swatch(name) {
  const made = element("span", "swatch");
  made.style.background = colorOf(name);
  return made;
}

// Rows of a list, each with a `data-key`. A row that was there stays the same element: if it is pressed while the page
// draws, it is still clicked, and it keeps the focus.
function drawRows(list, rows) {
  const keys = new Set(rows.map((row) => row.dataset.key));
  const there = new Map();
  for (const row of [...list.children]) {
    if (keys.has(row.dataset.key)) there.set(row.dataset.key, row);
    else row.remove();
  }
  let next = list.firstElementChild;
  for (const row of rows) {
    const old = there.get(row.dataset.key);
    if (old) become(old, row);
    if (old === next && old) next = next.nextElementSibling;
    else list.insertBefore(old || row, next);
  }
}

// Make an element equal to another of its kind.
function become(old, other) {
  if (old.isEqualNode(other)) return;
  for (const { name } of [...old.attributes]) if (!other.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of other.attributes) if (name !== "style") old.setAttribute(name, value);
  old.style.cssText = other.style.cssText; // as an attribute, the page's policy forbids it
  const parts = [...other.childNodes];
  for (const part of [...old.childNodes].slice(parts.length)) part.remove();
  parts.forEach((part, place) => {
    const there = old.childNodes[place];
    if (!there) old.append(part);
    else if (part.nodeType === Node.ELEMENT_NODE && part.nodeName === there.nodeName) become(there, part);
    else there.replaceWith(part);
  });
}

export class Panel extends EventTarget {
  constructor() {
    super();
    this.selected = null;
    this.videoId = null;
    $("classes").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      if (button.classList.contains("edit")) this.editClass(button.dataset.name);
      else this.dispatchEvent(new CustomEvent("class", { detail: button.dataset.name }));
    });
    $("points").addEventListener("click", (event) => {
      const row = event.target.closest("[data-key]");
      if (row) this.dispatchEvent(new CustomEvent("select", { detail: row.dataset.key }));
    });
    $("points").addEventListener("keydown", (event) => this.#key(event));
    $("new-class").addEventListener("click", () => this.dispatchEvent(new Event("new")));
  }

  drawClasses() {
    const counts = new Map();
    for (const [, point] of pointsOf(this.videoId)) counts.set(point.class, (counts.get(point.class) || 0) + 1);
    drawRows($("classes"), classes().map(({ name, key, color }) => {
      const row = element("li");
      row.dataset.key = name;
      const add = element("button", "class");
      add.dataset.name = name;
      add.style.setProperty("--class", color);
      add.ariaLabel = `Add a point of ${name}${key ? `, key ${key}` : ""}`;
      add.append(element("kbd", key ? "" : "none", key || "–"), element("span", "name", name));
      if (counts.has(name)) add.append(element("span", "count", String(counts.get(name))));
      const edit = element("button", "edit icon");
      edit.dataset.name = name;
      edit.ariaLabel = `Edit ${name}: its key and name`;
      edit.append(icon("more"));
      row.append(add, edit);
      return row;
    }));
    $("no-classes").hidden = classes().length > 0;
  }

  drawPoints() {
    const points = pointsOf(this.videoId);
    drawRows($("points"), points.map(([key, point]) => {
      const row = element("div", "point");
      row.id = `point-${key}`;
      row.role = "option";
      row.dataset.key = key;
      row.ariaSelected = String(key === this.selected);
      row.classList.toggle("pending", isPending(key));
      row.append(swatch(point.class), element("span", "name", point.class), element("time", "", clock(point.time)));
      if (point.note) row.append(element("span", "note", point.note));
      return row;
    }));
    $("no-points").hidden = points.length > 0;
    $("points-count").textContent = points.length ? String(points.length) : "";
    this.#mark();
  }

  select(key) {
    this.selected = key;
    for (const row of $("points").children) row.ariaSelected = String(row.dataset.key === key);
    this.#mark();
  }

  #mark() {
    const row = this.selected && $(`point-${this.selected}`);
    if (row) {
      $("points").setAttribute("aria-activedescendant", row.id);
      row.scrollIntoView({ block: "nearest" });
    } else $("points").removeAttribute("aria-activedescendant");
    for (const button of document.querySelectorAll("#point-buttons button")) button.disabled = !row;
  }

  #key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (steps === undefined || event.altKey || event.ctrlKey) return;
    event.preventDefault();
    event.stopPropagation();
    const points = pointsOf(this.videoId);
    const place = points.findIndex(([key]) => key === this.selected);
    const next = points[Math.max(0, Math.min(points.length - 1, place + steps))];
    if (next) this.dispatchEvent(new CustomEvent("select", { detail: next[0] }));
  }

  // A class's key and name, and taking it away where it has no points.
  editClass(name) {
    const dialog = $("class-dialog");
    const { key } = model.tables.classes[name];
    const count = Object.values(model.tables.points).filter((point) => point.class === name).length;
    $("class-name").value = name;
    $("class-key").value = key;
    $("class-note").textContent = `${count} point${count === 1 ? "" : "s"} in all videos`;
    $("class-remove").hidden = count > 0;
    const problem = (text) => { $("class-problem").textContent = text; };
    problem("");
    dialog.returnValue = "";
    $("class-form").onsubmit = (event) => {
      if (event.submitter?.value === "cancel") return;
      const renamed = tidyName($("class-name").value);
      const letter = $("class-key").value.trim().toLowerCase();
      const same = classes().find((other) => other.name !== name && spelling(other.name) === spelling(renamed));
      const owner = classes().find((other) => other.key === letter && other.name !== name);
      if (event.submitter?.value === "remove") return submit([{ table: "classes", key: name, after: null }]);
      event.preventDefault();
      if (!renamed) return problem("A class needs a name");
      if (renamed !== name && same) return problem(`There is a class of this name: ${same.name}`);
      if (letter && !KEYS.includes(letter)) return problem(`Keys of classes are ${[...KEYS].join(" ")}`);
      if (owner) return problem(`${letter} is the key of ${owner.name}`);
      if (renamed !== name) this.#rename(name, renamed, letter);
      else if (letter !== key) submit([{ table: "classes", key: name, after: { key: letter } }]);
      dialog.close();
    };
    dialog.showModal();
    $("class-key").select();
  }

  #rename(name, renamed, letter) {
    const points = Object.entries(model.tables.points).filter(([, point]) => point.class === name);
    submit([
      { table: "classes", key: name, after: null },
      { table: "classes", key: renamed, after: { key: letter } },
      ...points.map(([key, point]) => ({ table: "points", key, after: { ...point, class: renamed } })),
    ]);
  }
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  use.setAttribute("href", `#icon-${name}`);
  return svg;
}

// Ask for a class: one of those there are, by name or key, or a new one -> its name, or null.
export function pickClass(title) {
  const dialog = $("picker");
  const input = $("pick-name");
  const list = $("pick-list");
  $("pick-title").textContent = title;
  input.value = "";
  let place = 0;
  let names = [];
  let resolve = () => {};
  // At once: what is typed next counts already.
  const choose = (name) => { resolve(name); dialog.close(); };
  const draw = () => {
    const text = tidyName(input.value);
    const lower = text.toLowerCase();
    // The one that is typed comes first; another spelling of it is no new class.
    const likeness = ({ name }) => (name === text ? 2 : Number(spelling(name) === spelling(text)));
    names = classes().filter((item) => item.name.toLowerCase().includes(lower) || likeness(item));
    names.sort((one, other) => likeness(other) - likeness(one));
    if (text && !names.some(likeness)) names.push({ name: text, key: freeKey(), isNew: true });
    place = Math.max(0, Math.min(names.length - 1, place));
    list.replaceChildren(...names.map(({ name, key, isNew }, index) => {
      const row = element("div", "pick");
      row.role = "option";
      row.id = `pick-${index}`;
      row.ariaSelected = String(index === place);
      row.append(isNew ? icon("plus") : swatch(name), element("span", "name", isNew ? `New class “${name}”` : name));
      if (key) row.append(element("kbd", "", key));
      row.onclick = () => choose(name);
      return row;
    }));
    input.setAttribute("aria-activedescendant", `pick-${place}`);
    list.children[place]?.scrollIntoView({ block: "nearest" });
  };
  input.oninput = () => { place = 0; draw(); };
  input.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      place += step;
      draw();
    } else if (event.key === "Enter" && names[place]) choose(names[place].name);
    else return;
    event.preventDefault();
  };
  draw();
  dialog.showModal();
  return new Promise((done) => {
    resolve = done;
    dialog.addEventListener("close", () => done(null), { once: true });
  });
}

// Ask for a line of text -> the text, or null.
export function askNote(value) {
  const dialog = $("note-dialog");
  $("note-text").value = value;
  dialog.showModal();
  $("note-text").select();
  return new Promise((resolve) => {
    $("note-form").onsubmit = (event) => {
      if (event.submitter?.value !== "cancel") resolve($("note-text").value.trim());
    };
    dialog.addEventListener("close", () => resolve(null), { once: true });
  });
}
