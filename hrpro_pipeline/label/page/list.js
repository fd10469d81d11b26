// The list of videos: only the rows in sight exist, so that ten thousand scroll like ten.
import { countOf, events, model } from "./model.js";

const ROW = 46; // pixels, as in page.css
const BEYOND = 6; // rows out of sight that exist

export class VideoList extends EventTarget {
  constructor() {
    super();
    this.box = document.getElementById("list");
    this.rows = document.getElementById("rows");
    this.search = document.getElementById("search");
    this.progress = document.getElementById("filter-done");
    this.byClass = document.getElementById("filter-class");
    this.shown = [];
    this.current = -1; // number of the video that is open
    this.cursor = 0; // place in `shown` that the keyboard is at
    this.elements = new Map();
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.box);
    for (const input of [this.search, this.progress, this.byClass]) input.addEventListener("input", () => this.filter());
    this.search.addEventListener("keydown", (event) => this.#searchKey(event));
    this.box.addEventListener("keydown", (event) => this.#key(event));
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest("[data-place]");
      if (row) this.#open(Number(row.dataset.place));
    });
    events.addEventListener("change", ({ detail }) => this.#changed(detail));
  }

  filter() {
    const words = this.search.value.toLowerCase().split(/\s+/u).filter(Boolean);
    const wanted = this.byClass.value;
    const { done } = model.tables;
    const keep = {
      all: () => true, open: (video) => !done[video.id], done: (video) => done[video.id],
      empty: (video) => !countOf(video.id), points: (video) => countOf(video.id),
    }[this.progress.value];
    this.shown = model.videos.filter((video) => {
      video.text ??= `${video.id} ${video.name}`.toLowerCase();
      if (!words.every((word) => video.text.includes(word)) || !keep(video)) return false;
      return !wanted || [...(model.byVideo.get(video.id)?.values() || [])].some((point) => point.class === wanted);
    });
    this.cursor = Math.max(0, this.shown.findIndex((video) => video.number === this.current));
    this.rows.style.height = `${this.shown.length * ROW}px`;
    document.getElementById("list-count").textContent = this.shown.length === model.videos.length
      ? `${model.videos.length.toLocaleString("en")} videos`
      : `${this.shown.length.toLocaleString("en")} of ${model.videos.length.toLocaleString("en")} videos`;
    this.box.scrollTop = 0;
    this.reveal(this.cursor);
    this.draw(true);
  }

  // The classes to filter by.
  classes(names) {
    if (this.byClass.options.length === names.length + 1) return;
    const { value } = this.byClass;
    this.byClass.replaceChildren(new Option("Any class", ""), ...names.map((name) => new Option(name, name)));
    this.byClass.value = names.includes(value) ? value : "";
  }

  draw(all = false) {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - BEYOND);
    const last = Math.min(this.shown.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + BEYOND);
    for (const [place, element] of this.elements) {
      if (all || place < first || place >= last) {
        element.remove();
        this.elements.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) {
      if (!this.elements.has(place)) this.elements.set(place, this.rows.appendChild(this.#row(place)));
    }
    this.#mark();
  }

  #row(place) {
    const video = this.shown[place];
    const row = document.createElement("div");
    row.id = `video-${video.number}`;
    row.className = "row";
    row.role = "option";
    row.dataset.place = place;
    row.ariaPosInSet = place + 1;
    row.ariaSetSize = this.shown.length;
    row.style.top = `${place * ROW}px`;
    const name = row.appendChild(document.createElement("span"));
    name.className = "name";
    name.textContent = name.title = video.id;
    const about = row.appendChild(document.createElement("span"));
    about.className = "about";
    const count = countOf(video.id);
    about.textContent = count ? `${count} point${count === 1 ? "" : "s"}` : "no points";
    if (model.tables.done[video.id]) {
      row.classList.add("is-done");
      const mark = about.appendChild(document.createElement("span"));
      mark.className = "done-mark";
      mark.textContent = "done";
    }
    return row;
  }

  #mark() {
    for (const [place, element] of this.elements) {
      element.ariaSelected = String(this.shown[place].number === this.current);
      element.classList.toggle("cursor", place === this.cursor);
    }
    const video = this.shown[this.cursor];
    if (video) this.box.setAttribute("aria-activedescendant", `video-${video.number}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  reveal(place) {
    const top = place * ROW;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    const bottom = top + ROW - this.box.clientHeight;
    if (bottom > this.box.scrollTop) this.box.scrollTop = bottom;
  }

  select(number) {
    this.current = number;
    const place = this.shown.findIndex((video) => video.number === number);
    if (place >= 0) {
      this.cursor = place;
      this.reveal(place);
    }
    this.draw();
  }

  // The next or previous video of those in the list.
  neighbor(steps) {
    const place = this.shown.findIndex((video) => video.number === this.current);
    const next = this.shown[place < 0 ? 0 : place + steps];
    if (next) this.#open(this.shown.indexOf(next));
  }

  #open(place) {
    const video = this.shown[place];
    if (!video) return;
    this.cursor = place;
    this.dispatchEvent(new CustomEvent("open", { detail: video.number }));
  }

  // The keys are the player's then, and the next Tab goes on from there.
  #openByKey() {
    this.#open(this.cursor);
    document.querySelector("main").focus();
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter") this.#openByKey();
    else if (steps === undefined || event.ctrlKey || event.altKey) return;
    else this.cursor = Math.max(0, Math.min(this.shown.length - 1, this.cursor + steps));
    event.preventDefault();
    event.stopPropagation();
    this.reveal(this.cursor);
    this.draw();
  }

  #searchKey(event) {
    if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      this.box.focus();
      if (event.key === "Enter") this.#openByKey();
    }
    if (event.key === "Escape") {
      this.search.value = "";
      this.filter();
      document.querySelector("main").focus();
    }
  }

  #changed(changes) {
    if (!changes) return this.filter();
    const ids = new Set();
    for (const change of changes) {
      if (change.table === "done") ids.add(change.key);
      if (change.table === "points") for (const point of [change.before, change.after]) if (point) ids.add(point.video_id);
    }
    for (const [place, element] of this.elements) {
      if (!ids.has(this.shown[place].id)) continue;
      const row = this.#row(place);
      element.replaceWith(row);
      this.elements.set(place, row);
    }
    this.#mark();
  }
}
