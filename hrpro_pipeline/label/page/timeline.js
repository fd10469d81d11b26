// Ruler, detections, points, frames and sound under the player; from the whole video to single frames.
import { bytes } from "./api.js";
import { colorOf, isPending, pointsOf } from "./model.js";
import { clock } from "./player.js";
import { Strip } from "./strip.js";

const RULER = 22;
const LANE = 12; // of detections
const POINTS = 30;
const FRAMES = 64;
const SOUND = 40;
const OVERVIEW = 14;
const STEPS = [0.04, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18000, 36000];
const INK = { back: "#14171b", lane: "#1a1e23", line: "#2c333b", text: "#a3adb8", bright: "#e8ebee", accent: "#76b0f5" };

export class Timeline extends EventTarget {
  constructor(canvas, player) {
    super();
    this.canvas = canvas;
    this.player = player;
    this.context = canvas.getContext("2d");
    this.strip = new Strip(() => this.draw());
    this.start = 0; // of what is in sight, in seconds
    this.span = 1;
    this.videoId = null;
    this.selected = null; // key of a point
    this.detections = [];
    this.marked = null; // a moment that is asked about
    this.pointers = new Map();
    this.drag = null;
    this.peaks = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#up(event));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  open(videoId) {
    Object.assign(this, { videoId, selected: null, detections: [], marked: null, peaks: null, start: 0, span: 1 });
    this.strip.open(this.player.number, this.player.times);
    this.draw();
  }

  // The times of the frames are known.
  ready() {
    const { facts, number, times } = this.player;
    this.detections = facts.detections;
    this.strip.open(number, times);
    this.fit();
    if (facts.has_sound) {
      bytes(`video/${number}/peaks`).then((peaks) => {
        if (number === this.player.number) this.peaks = new Uint8Array(peaks);
        this.draw();
      }).catch(() => {});
    }
  }

  get width() { return this.canvas.clientWidth; }
  get least() { return Math.min(this.player.duration || 1, 12 * ((this.player.duration || 1) / (this.player.times.length || 1))); }
  x(seconds) { return ((seconds - this.start) / this.span) * this.width; }
  secondsAt(x) { return this.start + (x / this.width) * this.span; }

  fit() {
    this.look(0, this.player.duration || 1);
  }

  look(start, span) {
    const duration = this.player.duration || 1;
    this.span = Math.max(this.least, Math.min(duration, span));
    this.start = Math.max(0, Math.min(duration - this.span, start));
    this.draw();
  }

  // Zoom by a factor about a time; about the frame that is shown where none is given.
  zoom(factor, about = this.player.seconds) {
    const share = Math.max(0, Math.min(1, (about - this.start) / this.span));
    const span = Math.max(this.least, Math.min(this.player.duration || 1, this.span / factor));
    this.look(about - share * span, span);
  }

  // Keep the shown frame in sight.
  follow() {
    const { seconds } = this.player;
    if (this.drag || (seconds >= this.start && seconds <= this.start + this.span * 0.96)) return this.draw();
    if (this.player.isPlaying) this.look(seconds - this.span * 0.04, this.span);
    else this.look(seconds - this.span / 2, this.span);
  }

  draw() {
    if (this.isDrawn) return;
    this.isDrawn = true;
    requestAnimationFrame(() => {
      this.isDrawn = false;
      this.#paint();
    });
  }

  #rows() {
    const lanes = this.detections.length ? 3 * LANE + 6 : 0;
    const points = RULER + lanes;
    const frames = points + POINTS;
    const sound = frames + FRAMES + 4;
    return { lanes: RULER, points, frames, sound, overview: sound + SOUND + 6, height: sound + SOUND + 6 + OVERVIEW };
  }

  #paint() {
    const { canvas, context } = this;
    const rows = this.#rows();
    const ratio = window.devicePixelRatio || 1;
    if (canvas.style.height !== `${rows.height}px`) canvas.style.height = `${rows.height}px`;
    if (canvas.width !== Math.round(this.width * ratio) || canvas.height !== Math.round(rows.height * ratio)) {
      canvas.width = Math.round(this.width * ratio);
      canvas.height = Math.round(rows.height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = INK.back;
    context.fillRect(0, 0, this.width, rows.height);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    if (!this.player.facts) return;
    context.fillStyle = INK.lane;
    context.fillRect(0, rows.points, this.width, POINTS);
    this.#paintRuler(rows);
    this.#paintSound(rows);
    this.strip.paint(context, this, rows.frames, FRAMES);
    this.#paintDetections(rows);
    this.#paintPoints(rows);
    this.#paintOverview(rows);
    this.#paintHead(rows);
  }

  #paintRuler(rows) {
    const { context } = this;
    const step = STEPS.find((seconds) => (seconds / this.span) * this.width > 74) || 72000;
    const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    for (let tick = Math.ceil(this.start / step); tick * step <= this.start + this.span; tick += 1) {
      const x = Math.round(this.x(tick * step)) + 0.5;
      context.fillStyle = INK.line;
      context.fillRect(x, RULER - 6, 1, rows.overview - RULER);
      context.fillStyle = INK.text;
      context.fillText(clock(tick * step, digits), x + 4, RULER / 2);
    }
    const perFrame = (this.width / this.span) * ((this.player.duration || 1) / this.player.times.length);
    if (perFrame < 6) return;
    const last = this.player.frameAt(this.start + this.span);
    context.fillStyle = "#3d4650";
    for (let index = this.player.frameAt(this.start); index <= last; index += 1) {
      context.fillRect(Math.round(this.x(this.player.times[index])), rows.points - 4, 1, 4);
    }
  }

  #paintSound(rows) {
    const { context, peaks } = this;
    context.fillStyle = INK.lane;
    context.fillRect(0, rows.sound, this.width, SOUND);
    context.fillStyle = INK.text;
    if (!peaks) {
      const text = this.player.facts.has_sound ? "Listening to the sound …" : "No sound";
      context.fillText(text, 8, rows.sound + SOUND / 2);
      return;
    }
    context.fillStyle = "#5c86b8";
    const middle = rows.sound + SOUND / 2;
    for (let x = 0; x < this.width; x += 1) {
      const first = Math.floor(this.secondsAt(x) * 100);
      const last = Math.max(first + 1, Math.floor(this.secondsAt(x + 1) * 100));
      let loudest = 0;
      const stride = Math.max(1, Math.floor((last - first) / 64));
      for (let place = first; place < last; place += stride) loudest = Math.max(loudest, peaks[place] || 0);
      const half = Math.max(0.5, (Math.sqrt(loudest / 255) * (SOUND - 4)) / 2);
      context.fillRect(x, middle - half, 1, 2 * half);
    }
  }

  #paintDetections(rows) {
    const { context } = this;
    const ends = [-Infinity, -Infinity, -Infinity];
    for (const item of this.detections) item.lane = null;
    for (const item of [...this.detections].sort((one, other) => one.start_seconds - other.start_seconds)) {
      const lane = Math.max(0, ends.findIndex((end) => end <= item.start_seconds));
      ends[lane] = Math.max(ends[lane], item.end_seconds);
      const left = this.x(item.start_seconds);
      const right = this.x(item.end_seconds);
      if (right < 0 || left > this.width) continue;
      context.globalAlpha = 0.35 + 0.6 * Math.min(1, Math.max(0, item.probability ?? item.score));
      context.fillStyle = colorOf(item.label);
      context.beginPath();
      context.roundRect(left, rows.lanes + 2 + lane * LANE, Math.max(2, right - left), LANE - 2, 3);
      context.fill();
      context.globalAlpha = 1;
    }
    if (!this.marked) return;
    const left = this.x(this.marked.start ?? this.marked.time);
    const right = this.x(this.marked.end ?? this.marked.time);
    context.strokeStyle = INK.bright;
    context.setLineDash([4, 3]);
    context.strokeRect(left - 3, RULER + 1, Math.max(6, right - left + 6), rows.frames - RULER + FRAMES);
    context.setLineDash([]);
  }

  #paintPoints(rows) {
    const { context } = this;
    const middle = rows.points + POINTS / 2;
    let free = -Infinity;
    for (const [key, point] of this.#points()) {
      const x = this.x(point.time);
      if (x < -200 || x > this.width + 20) continue;
      const isSelected = key === this.selected;
      context.fillStyle = colorOf(point.class);
      context.globalAlpha = isSelected ? 1 : 0.75;
      context.fillRect(x - 0.75, middle, isSelected ? 2.5 : 1.5, rows.sound + SOUND - middle);
      context.globalAlpha = isPending(key) ? 0.5 : 1;
      const size = isSelected ? 8 : 6;
      context.beginPath();
      context.moveTo(x, middle - size);
      context.lineTo(x + size, middle);
      context.lineTo(x, middle + size);
      context.lineTo(x - size, middle);
      context.closePath();
      context.fill();
      if (isSelected) {
        context.lineWidth = 2;
        context.strokeStyle = INK.bright;
        context.stroke();
        context.lineWidth = 1;
      }
      context.globalAlpha = 1;
      if (x + 12 > free || isSelected) {
        const text = point.note ? `${point.class} ·` : point.class;
        const { width } = context.measureText(text);
        if (x + 12 <= free) { // over the name of a point just before it
          context.fillStyle = INK.lane;
          context.fillRect(x + 10, rows.points, width + 4, POINTS);
        }
        context.fillStyle = isSelected ? INK.bright : INK.text;
        context.fillText(text, x + 12, middle);
        free = x + 18 + width;
      }
    }
  }

  // Points of the video; the one that is dragged is where the pointer is.
  #points() {
    const points = pointsOf(this.videoId);
    if (this.drag?.key && this.drag.time !== undefined) {
      return points.map(([key, point]) => [key, key === this.drag.key ? { ...point, time: this.drag.time } : point]);
    }
    return points;
  }

  #paintOverview(rows) {
    const { context } = this;
    const scale = this.width / (this.player.duration || 1);
    context.fillStyle = INK.lane;
    context.fillRect(0, rows.overview, this.width, OVERVIEW);
    context.fillStyle = "#39424d";
    context.beginPath();
    context.roundRect(this.start * scale, rows.overview, Math.max(10, this.span * scale), OVERVIEW, 4);
    context.fill();
    for (const [, point] of this.#points()) {
      context.fillStyle = colorOf(point.class);
      context.fillRect(point.time * scale - 1, rows.overview + 3, 2, OVERVIEW - 6);
    }
    context.fillStyle = INK.accent;
    context.fillRect(this.player.seconds * scale - 1, rows.overview, 2, OVERVIEW);
  }

  #paintHead(rows) {
    const { context, player } = this;
    const x = this.x(player.seconds);
    context.fillStyle = INK.accent;
    const next = player.times[player.index + 1];
    if (!player.isPlaying && next !== undefined && this.x(next) - x > 4) {
      context.globalAlpha = 0.18;
      context.fillRect(x, RULER, this.x(next) - x, rows.overview - RULER - 4);
      context.globalAlpha = 1;
    }
    context.fillRect(x - 1, 2, 2, rows.overview - 6);
    context.beginPath();
    context.moveTo(x - 6, 2);
    context.lineTo(x + 6, 2);
    context.lineTo(x, 10);
    context.fill();
  }

  #pointAt(x, y, reach) {
    const rows = this.#rows();
    if (y < rows.points || y > rows.points + POINTS) return null;
    let best = null;
    for (const [key, point] of pointsOf(this.videoId)) {
      const distance = Math.abs(this.x(point.time) - x);
      if (distance <= reach && (!best || distance <= best.distance)) best = { key, distance };
    }
    return best?.key ?? null;
  }

  #down(event) {
    if (!this.player.facts || event.button > 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    const x = event.offsetX;
    const y = event.offsetY;
    this.pointers.set(event.pointerId, x);
    if (this.pointers.size === 2) {
      const [one, other] = [...this.pointers.values()];
      this.drag = { pinch: Math.abs(one - other) || 1, span: this.span, about: this.secondsAt((one + other) / 2) };
      return;
    }
    if (y >= this.#rows().overview) {
      this.drag = { overview: true };
      this.#move(event);
      return;
    }
    const key = this.#pointAt(x, y, event.pointerType === "mouse" ? 9 : 20);
    this.drag = { key, from: x, isMoved: false };
    if (key) this.dispatchEvent(new CustomEvent("select", { detail: key }));
    else this.player.seek(this.player.frameAt(Math.max(0, this.secondsAt(x))));
  }

  #move(event) {
    const x = event.offsetX;
    if (!this.pointers.has(event.pointerId) || !this.drag) {
      this.canvas.style.cursor = this.#pointAt(x, event.offsetY, 9) ? "grab" : "default";
      return;
    }
    this.pointers.set(event.pointerId, x);
    if (this.drag.pinch) {
      const [one, other] = [...this.pointers.values()];
      if (other === undefined) return;
      const span = this.drag.span * (this.drag.pinch / (Math.abs(one - other) || 1));
      this.look(this.drag.about - ((one + other) / 2 / this.width) * span, span);
      return;
    }
    if (this.drag.overview) {
      this.look((x / this.width) * this.player.duration - this.span / 2, this.span);
      return;
    }
    const index = this.player.nearest(Math.max(0, this.secondsAt(x)));
    if (this.drag.key) {
      if (Math.abs(x - this.drag.from) < 3 && !this.drag.isMoved) return;
      this.drag.isMoved = true;
      this.drag.time = this.player.times[index];
    }
    if (index !== this.player.index) this.player.seek(index);
    this.draw();
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    const { drag } = this;
    if (this.pointers.size) return;
    this.drag = null;
    if (event.type === "pointerup" && drag?.isMoved) {
      this.dispatchEvent(new CustomEvent("move", { detail: { key: drag.key, time: drag.time } }));
    }
    this.draw();
  }

  #wheel(event) {
    if (!this.player.facts) return;
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      this.look(this.start + ((event.deltaX || event.deltaY) / this.width) * this.span, this.span);
    } else {
      this.zoom(Math.exp(-event.deltaY * 0.002), this.secondsAt(event.offsetX));
    }
  }
}
