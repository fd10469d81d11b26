// The strip of frames: thumbnails from the server, eight in a picture, at steps of 1, 2, 4, ... frames.
import { bytes } from "./api.js";

const PER_PICTURE = 8;
const AT_ONCE = 2; // pictures on their way
const KEPT = 240; // pictures
const WIDTH = 72; // pixels between frames, at least

export class Strip {
  constructor(onPicture) {
    this.onPicture = onPicture;
    this.number = -1;
    this.times = [];
    this.pictures = new Map();
    this.loading = 0;
    this.wanted = [];
  }

  open(number, times) {
    if (number !== this.number) this.pictures.clear();
    this.number = number;
    this.times = times;
    this.wanted = [];
  }

  paint(context, timeline, top, height) {
    context.fillStyle = "#0e1013";
    context.fillRect(0, top, timeline.width, height);
    const { times } = this;
    if (!times.length) return;
    const perFrame = (timeline.width / timeline.span) * ((timeline.player.duration || 1) / times.length);
    const step = 2 ** Math.max(0, Math.ceil(Math.log2(WIDTH / perFrame)));
    const last = timeline.player.frameAt(timeline.start + timeline.span);
    this.wanted = [];
    let index = Math.floor(timeline.player.frameAt(timeline.start) / step) * step;
    for (; index <= last; index += step) {
      const left = timeline.x(times[index]);
      const right = index + step < times.length ? timeline.x(times[index + step]) : timeline.x(timeline.player.duration);
      this.#paintFrame(context, index, step, left, right, top, height);
    }
    if (timeline.player.hasMedia) this.#load();
  }

  #paintFrame(context, index, step, left, right, top, height) {
    const tile = Math.floor(index / (step * PER_PICTURE));
    const name = `${step}:${tile}`;
    const picture = this.pictures.get(name);
    if (!picture) this.wanted.push(name);
    if (!(picture instanceof ImageBitmap)) return;
    this.pictures.delete(name); // the ones used last are kept longest
    this.pictures.set(name, picture);
    const place = index / step - tile * PER_PICTURE;
    const width = picture.width / PER_PICTURE;
    const slot = right - left - 1;
    if (slot <= 0) return;
    // It fills its place, cut at the sides or above and below; a place much wider is not filled.
    const shown = Math.min(slot, (2.4 * width * height) / picture.height);
    const scale = Math.max(height / picture.height, shown / width);
    const cut = [(width - shown / scale) / 2, (picture.height - height / scale) / 2];
    context.drawImage(picture, place * width + cut[0], cut[1], shown / scale, height / scale, left, top, shown, height);
  }

  #load() {
    while (this.loading < AT_ONCE && this.wanted.length) {
      const name = this.wanted.shift();
      if (this.pictures.has(name)) continue;
      const [step, tile] = name.split(":").map(Number);
      const { number } = this;
      this.loading += 1;
      this.pictures.set(name, "loading");
      bytes(`video/${number}/strip?first=${tile * step * PER_PICTURE}&step=${step}&count=${PER_PICTURE}`)
        .then((data) => createImageBitmap(new Blob([data], { type: "image/jpeg" })))
        .catch(() => "failed")
        .then((picture) => {
          this.loading -= 1;
          if (number === this.number) this.pictures.set(name, picture);
          while (this.pictures.size > KEPT) this.pictures.delete(this.pictures.keys().next().value);
          this.onPicture();
        });
    }
  }
}
