// Suggestions and detections, one by one: yes, no, another class, or another place.
import { get } from "./api.js";
import { model, pointsOf, submit } from "./model.js";
import { clock } from "./player.js";

const $ = (id) => document.getElementById(id);
const WHY = {
  misplaced: "Is this point inside its action?", forgotten: "Is this an action without a point?",
  new: "Does this happen here?", detection: "The model detects this. Does it happen?",
};

export class Review extends EventTarget {
  constructor(player) {
    super();
    this.player = player;
    this.suggestions = [];
    this.place = -1;
    this.isOn = model.has_suggestions || model.has_detections;
    $("review").addEventListener("click", (event) => {
      const button = event.target.closest("button[data-answer]");
      if (button) this.dispatchEvent(new CustomEvent("answer", { detail: button.dataset.answer }));
    });
    window.addEventListener("focus", () => this.load());
  }

  get usesSuggestions() { return model.has_suggestions; }

  // What is asked about: all suggestions, or the detections of the video that is open.
  get items() {
    if (this.usesSuggestions) return this.suggestions;
    const video = model.videos[this.player.number];
    return (this.player.facts?.detections || [])
      .map((item) => ({
        key: `${video.id}|${item.start_seconds}|${item.end_seconds}|${item.label}|detection`.slice(0, 500),
        video_id: video.id, time: (item.start_seconds + item.end_seconds) / 2, class: item.label, kind: "detection",
        score: item.probability ?? item.score, start: item.start_seconds, end: item.end_seconds,
      }))
      .sort((one, other) => one.time - other.time);
  }

  get item() { return this.items[this.place] || null; }

  async load() {
    if (!model.has_suggestions) return;
    try {
      const { key } = this.item || {};
      this.suggestions = await get("suggestions");
      this.place = this.suggestions.findIndex((item) => item.key === key);
      this.draw();
    } catch (error) {
      this.dispatchEvent(new CustomEvent("problem", { detail: error.message }));
    }
  }

  isAnswered(item) {
    if (model.tables.answers[item.key]) return true;
    return item.kind === "detection" && pointsOf(item.video_id)
      .some(([, point]) => point.class === item.class && point.time >= item.start && point.time <= item.end);
  }

  // Go to the next (or previous) one without an answer.
  step(direction) {
    const { items } = this;
    for (let place = this.place + direction; place >= 0 && place < items.length; place += direction) {
      if (!this.isAnswered(items[place])) return this.go(place);
    }
    const first = items.findIndex((item) => !this.isAnswered(item));
    if (direction > 0 && first >= 0 && this.usesSuggestions) return this.go(first);
    this.leave();
    return null;
  }

  // Nothing is asked: another video was opened.
  leave() {
    this.place = -1;
    this.draw();
  }

  go(place) {
    this.place = place;
    this.draw();
    this.dispatchEvent(new CustomEvent("go", { detail: this.item }));
    return this.item;
  }

  // The changes that an answer makes: `label` for another class, `time` for another place.
  answer(kind, { label, time } = {}) {
    const { item } = this;
    if (!item) return null;
    const near = pointsOf(item.video_id)
      .find(([, point]) => item.time !== null && Math.abs(point.time - item.time) < 0.02 && (!item.class || point.class === item.class));
    const at = time ?? (item.time === null ? null : this.player.times[this.player.nearest(item.time)]);
    const changes = [{ table: "answers", key: item.key, after: kind }];
    const name = label || item.class;
    const point = (group) => ({ video_id: item.video_id, class: group, time: Math.round(at * 1e6) / 1e6, note: "" });
    let key = null;
    if (at !== null) {
      if (kind === "no") {
        if (near) changes.push({ table: "points", key: near[0], after: null });
        changes.push({ table: "points", key: crypto.randomUUID(), after: point(model.background) });
      } else if (near) {
        [key] = near;
        const after = { ...near[1], class: name, time: time === undefined ? near[1].time : point(name).time };
        if (after.class !== near[1].class || after.time !== near[1].time) changes.push({ table: "points", key, after });
      } else {
        key = crypto.randomUUID();
        changes.push({ table: "points", key, after: point(name) });
      }
    }
    submit(changes);
    return key;
  }

  draw() {
    const { item, items } = this;
    $("review").hidden = !this.isOn || (!items.length && !this.usesSuggestions);
    if (!this.isOn) return;
    const open = items.filter((other) => !this.isAnswered(other)).length;
    const noun = this.usesSuggestions ? "suggestion" : "detection";
    $("review-count").textContent = `${open} of ${items.length} ${noun}s to answer`;
    $("review-what").hidden = !item;
    const isRather = Boolean(item && (item.otherClass || (item.otherTime ?? null) !== null));
    $("review-rather").hidden = !isRather;
    for (const button of document.querySelectorAll("#review [data-answer]")) {
      button.disabled = button.dataset.answer === "next" ? !open : !item;
    }
    if (!item) {
      $("review-why").textContent = open ? "Press . for the next one" : `No ${noun} is left here`;
      return;
    }
    $("review-why").textContent = WHY[item.kind] || item.kind;
    const score = item.score === null || item.score === undefined ? "" : ` · ${item.score.toFixed(2)}`;
    const place = item.time === null ? "the whole video" : clock(item.time);
    const others = [item.otherClass, (item.otherTime ?? null) === null ? "" : `at ${clock(item.otherTime)}`];
    const rather = isRather ? ` · rather ${others.filter(Boolean).join(" ")}` : "";
    $("review-what").textContent = `${item.class || "any class"} · ${place}${rather}${score}`;
  }
}
