// The player: it knows frames by number, at the decoder's own times, whatever the browser's clock says.
import { bytes, get } from "./api.js";

export const SPEEDS = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8];
const AFTER_START = 0.004; // seconds into a frame that is sought, where it is long enough
const PATIENCE = 200; // milliseconds after a seek in which a browser shows its frame, or never does

export class Player extends EventTarget {
  constructor(video) {
    super();
    this.video = video;
    this.number = -1; // of the video in the list
    this.times = new Float64Array(0);
    this.facts = null;
    this.index = 0; // of the frame that is shown, or sought
    this.speed = 1;
    this.direction = 0; // -1 while playing backwards
    this.offset = null; // the browser's time of second 0
    this.seen = null; // the browser's time of the frame that it showed last
    this.opening = 0;
    this.attempts = 0; // at a frame that the browser does not show at once
    video.addEventListener("seeked", () => this.#seeked());
    for (const name of ["play", "pause", "ended", "ratechange"]) video.addEventListener(name, () => this.#tell());
    video.addEventListener("error", () => this.#failed());
    this.#watch();
  }

  get duration() { return this.facts?.duration || 0; }
  get isPlaying() { return this.direction < 0 || (!this.video.paused && !this.video.ended); }
  get hasMedia() { return this.facts !== null && this.video.hasAttribute("src"); } // a copy is made, where there must be one
  get isReady() { return this.times.length > 0 && this.offset !== null; } // a frame has been shown
  get seconds() {
    if (this.isPlaying && this.direction >= 0) return Math.max(0, this.video.currentTime - (this.offset || 0));
    return this.times[this.index] || 0;
  }

  // Open a video of the list, at a time in seconds.
  async open(number, seconds = 0) {
    const opening = ++this.opening;
    this.pause();
    Object.assign(this, { number, facts: null, times: new Float64Array(0), index: 0, offset: null, seen: null });
    this.wanted = null;
    this.video.removeAttribute("src");
    this.video.load();
    this.#say("Opening …");
    this.#tell();
    try {
      const facts = await get(`video/${number}/facts`);
      const times = new Float64Array(await bytes(`video/${number}/times`));
      if (opening !== this.opening) return;
      Object.assign(this, { facts, times });
      this.index = this.nearest(seconds);
      this.#tell();
      if (facts.copy_reason) await this.#openCopy(opening, facts.copy_reason);
      else this.#load(`video/${number}/media`);
    } catch (error) {
      if (opening === this.opening) this.#say(error.message, true);
    }
  }

  async #openCopy(opening, reason) {
    const number = this.number;
    for (;;) {
      const copy = await get(`video/${number}/copy`);
      if (opening !== this.opening) return;
      if (copy.state === "failed") throw new Error(copy.text);
      if (copy.state === "ready") break;
      const share = copy.total ? copy.done / copy.total : 0;
      this.#say(`A copy that browsers play is being made: ${Math.round(100 * share)}% (${reason})`, false, share);
      await new Promise((wake) => setTimeout(wake, 250));
      if (opening !== this.opening) return;
    }
    this.isCopy = true;
    this.#load(`video/${number}/copied`);
    this.dispatchEvent(new Event("copied"));
  }

  #load(address) {
    this.isCopy = address.endsWith("copied");
    this.video.src = address;
    this.video.playbackRate = this.video.defaultPlaybackRate = this.speed;
    this.#say("");
  }

  #failed() {
    if (!this.video.getAttribute("src")) return;
    if (this.isCopy || !this.facts) return this.#say("The browser does not play this video", true);
    const opening = this.opening;
    this.facts.copy_reason = "this browser does not play it as it is";
    this.#openCopy(opening, this.facts.copy_reason).catch((error) => this.#say(error.message, true));
  }

  // The frame that is shown at a time.
  frameAt(seconds) {
    let low = 0;
    let high = this.times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= seconds + 1e-6) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  // The frame whose time is nearest.
  nearest(seconds) {
    const before = this.frameAt(seconds);
    const isAfter = before + 1 < this.times.length && this.times[before + 1] - seconds < seconds - this.times[before];
    return isAfter ? before + 1 : before;
  }

  // The frame on screen at this moment: the one that is sought, or the one that the browser shows.
  onScreen() {
    if (!this.isPlaying || this.direction < 0 || this.offset === null) return this.index;
    let seconds = this.seen ?? this.video.currentTime;
    try {
      const frame = new VideoFrame(this.video);
      if (Math.abs(frame.timestamp / 1e6 - seconds) < 1) seconds = frame.timestamp / 1e6;
      frame.close();
    } catch { /* a browser without frames: what it last said that it showed */ }
    return this.nearest(seconds - this.offset);
  }

  seek(index) {
    this.index = Math.max(0, Math.min(this.times.length - 1, index));
    this.attempts = 0;
    if (this.wanted === null) this.#go();
    else this.isOutdated = true;
    this.#tell();
  }

  step(count) {
    this.pause();
    this.seek(this.index + count);
  }

  jump(seconds) {
    this.seek(this.frameAt(Math.max(0, this.seconds + seconds)));
  }

  #go() {
    if (!this.isReady) return; // the first frame comes first: it tells where the browser's clock begins
    const start = this.times[this.index];
    const length = (this.times[this.index + 1] ?? this.duration) - start;
    const into = this.attempts ? length * (0.25 + 0.25 * this.attempts) : Math.min(AFTER_START, length / 2);
    this.wanted = this.index;
    this.isOutdated = false;
    this.video.currentTime = (this.offset || 0) + start + Math.max(1e-4, into);
  }

  #seeked() {
    this.wanted = null;
    if (this.isOutdated) this.#go();
    else setTimeout(() => this.#seekAgain(), PATIENCE);
    this.#tell();
  }

  // Browsers round times, and stop at an earlier frame now and then, mostly near the end.
  #seekAgain() {
    if (this.isPlaying || this.video.seeking || this.wanted !== null || this.attempts >= 3) return;
    if (this.seen === null || this.nearest(this.seen - this.offset) === this.index) return;
    this.attempts += 1; // further into the frame
    this.#go();
  }

  // Every frame that is shown: the first one of a video tells where the browser's clock begins.
  #watch() {
    if (!this.video.requestVideoFrameCallback) {
      this.video.addEventListener("timeupdate", () => this.#shown(this.video.currentTime));
      return;
    }
    const shown = (now, { mediaTime }) => {
      this.video.requestVideoFrameCallback(shown);
      this.#shown(mediaTime);
    };
    this.video.requestVideoFrameCallback(shown);
  }

  #shown(mediaTime) {
    if (!this.times.length) return;
    this.seen = mediaTime;
    if (this.offset === null) {
      this.offset = mediaTime - this.times[0];
      this.dispatchEvent(new Event("ready"));
      if (this.index > 0) this.#go();
      return;
    }
    const index = this.nearest(mediaTime - this.offset);
    if (this.isPlaying && this.direction >= 0) {
      this.index = index;
    } else {
      this.#seekAgain();
    }
    this.#tell();
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  play() {
    if (!this.isReady) return;
    this.#stopBackwards();
    if (this.index >= this.times.length - 1) this.seek(0);
    this.video.play().catch(() => {});
    this.#tell();
  }

  pause() {
    const wasPlaying = this.isPlaying && this.direction >= 0;
    if (wasPlaying) this.index = this.onScreen();
    this.#stopBackwards();
    this.video.pause();
    if (wasPlaying) this.seek(this.index);
    this.#tell();
  }

  // Play backwards: by seeking, as fast as the browser does.
  backwards() {
    this.pause();
    this.direction = -1;
    let last = performance.now();
    let position = this.seconds;
    const step = (now) => {
      if (this.direction >= 0) return;
      position -= ((now - last) / 1000) * this.speed;
      last = now;
      const index = this.frameAt(Math.max(0, position));
      if (position <= 0) {
        this.pause();
        this.seek(0); // also if a frame before it is still on its way
        return;
      }
      if (index < this.index && this.wanted === null) this.seek(index);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
    this.#tell();
  }

  #stopBackwards() {
    this.direction = 0;
  }

  setSpeed(speed) {
    this.speed = speed;
    this.video.playbackRate = speed;
    this.#tell();
  }

  changeSpeed(steps) {
    const place = SPEEDS.findIndex((speed) => speed >= this.speed);
    this.setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, place + steps))]);
  }

  #say(text, isProblem = false, share = null) {
    this.dispatchEvent(new CustomEvent("message", { detail: { text, isProblem, share } }));
  }

  #tell() {
    this.dispatchEvent(new Event("state"));
  }
}

export function clock(seconds, digits = 2) {
  const rounded = Number(Math.max(0, seconds).toFixed(digits));
  const hours = Math.floor(rounded / 3600);
  const minutes = Math.floor(rounded / 60) % 60;
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
