// The video beside the timeline. If it cannot be played, everything else works with the cursor alone.

const player = byId("player");
let playable = false;
let stopAt = null; // end of the detection that is being played
let requested = null; // the last seek by a script: any other seek is the viewer's
let following = false;
let sheet = null; // address of the picture of this video's frames

function load(video) {
  const { media } = video;
  if (sheet) URL.revokeObjectURL(sheet);
  sheet = null;
  if (media?.film) {
    const bytes = Uint8Array.from(atob(media.film.jpeg), (letter) => letter.charCodeAt(0));
    sheet = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  }
  stopAt = requested = null;
  playable = Boolean(media);
  if (playable) {
    player.src = media.url;
  } else if (player.hasAttribute("src")) {
    player.removeAttribute("src");
    player.load();
  }
  showPlayer(media || !data.hasMedia ? "" : `There is no file of ${video.id} in the folder of videos.`);
}

function showPlayer(note) {
  const { media } = videos[state.video];
  if (!data.hasMedia) note = "hrpro report --videos DIR shows the videos here.";
  player.hidden = !playable;
  byId("still").hidden = playable || !media?.film;
  byId("screen").hidden = !playable && !media?.film;
  const problem = media?.problem && `No thumbnails: ${media.problem}.`;
  byId("player-note").textContent = [note, problem].filter(Boolean).join(" ");
}

function cannotPlay() {
  const { media } = videos[state.video];
  if (!playable || !media) return;
  playable = false;
  showPlayer(`This browser cannot play ${media.name}${media.codec && ` (${media.codec})`}, or it has moved.`);
  setTime(state.time);
}

function seek(seconds) {
  setTime(seconds);
  if (!playable) return;
  requested = Math.max(0, seconds);
  player.currentTime = requested;
}

function play(start, end) {
  seek(start);
  stopAt = end;
  if (playable) player.play().catch(() => {}); // "error" tells what is wrong; another seek is no error
}

function toggle() {
  if (!playable) return;
  stopAt = null;
  if (player.paused) player.play().catch(() => {});
  else player.pause();
}

function follow() {
  if (stopAt !== null && player.currentTime >= stopAt) {
    player.pause();
    stopAt = null;
  }
  setTime(player.currentTime);
  following = !player.paused && !player.ended;
  if (following) requestAnimationFrame(follow);
}

// Draws the frame nearest to a time, at a scale, as the background of a node.
function showFrame(node, film, seconds, scale) {
  let best = 0;
  film.times.forEach((time, index) => {
    if (Math.abs(time - seconds) < Math.abs(film.times[best] - seconds)) best = index;
  });
  const width = film.width * scale;
  const height = film.height * scale;
  Object.assign(node.style, {
    width: `${width}px`, height: `${height}px`, backgroundImage: `url(${sheet})`,
    backgroundSize: `${Math.min(film.columns, film.times.length) * width}px auto`,
    backgroundPosition: `${-(best % film.columns) * width}px ${-Math.floor(best / film.columns) * height}px`,
  });
}

player.addEventListener("error", cannotPlay);
player.addEventListener("loadedmetadata", () => { if (!player.videoWidth) cannotPlay(); }); // sound alone
player.addEventListener("play", () => { if (!following) requestAnimationFrame(follow); });
player.addEventListener("seeking", () => {
  if (requested === null || Math.abs(player.currentTime - requested) > 0.05) stopAt = null;
});
for (const event of ["seeked", "timeupdate"]) {
  player.addEventListener(event, () => {
    if (playable && !following && player.readyState) setTime(player.currentTime);
  });
}
