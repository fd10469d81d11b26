// Puts the page together: keys, buttons, and what follows what.
import { VideoList } from "./list.js";
import { KEYS, classes, ensureClass, events, go, load, model, pointsOf, submit, tidyName } from "./model.js";
import { Panel, askNote, element, pickClass } from "./panel.js";
import { Player, clock } from "./player.js";
import { Review } from "./review.js";
import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const CLOSED = "The video is not open yet";
let player, timeline, list, panel, review;
let selected = null; // key of a point
let untilSeconds = null; // where playing about a moment ends
let pressedFrame = null; // that was on screen when a key or finger went down

const video = () => model.videos[player.number];
// A field of a dialog that has just been closed has the focus until the browser draws: its keys are the page's again.
const isTyping = (target) => target.matches?.("input:not([type=checkbox]), textarea, select, [contenteditable]")
  && !target.closest("dialog:not([open])");

function say(text, isProblem = false) {
  const toast = $("toast");
  toast.textContent = text;
  toast.classList.toggle("problem", isProblem);
  toast.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { toast.hidden = true; }, isProblem ? 9000 : 2500);
}

async function open(number, seconds = 0) {
  if (number === player.number && player.facts) return player.seek(player.nearest(seconds));
  const opened = player.open(number, seconds);
  panel.videoId = video().id;
  select(null);
  timeline.open(video().id);
  list.select(number);
  $("title").textContent = video().id;
  $("title").title = video().name;
  if (review.item && review.item.video_id !== video().id) review.leave();
  drawAll();
  sessionStorage.setItem("video", video().id);
  return opened;
}

function select(key, isSought = false) {
  selected = key;
  panel.select(key);
  timeline.selected = key;
  const point = key && model.tables.points[key];
  if (isSought && point) player.seek(player.nearest(point.time));
  timeline.draw();
}

// ---- points ----

function timeOf(index) {
  return Math.round(player.times[index] * 1e6) / 1e6;
}

function addPoint(name, index = pressedFrame ?? player.onScreen()) {
  if (!player.isReady) return say(CLOSED, true);
  ensureClass(name);
  const time = timeOf(index);
  if (pointsOf(video().id).some(([, point]) => point.class === name && point.time === time)) {
    return say(`${name} has a point at this frame already`);
  }
  const key = crypto.randomUUID();
  submit([{ table: "points", key, after: { video_id: video().id, class: name, time, note: "" } }]);
  select(key);
  say(`${name} at ${clock(time)}`);
  return key;
}

function changePoint(values, text) {
  const point = model.tables.points[selected];
  if (!point) return say("Select a point first: [ and ] go from one to the next");
  submit([{ table: "points", key: selected, after: { ...point, ...values } }]);
  say(text);
}

function movePoint(key, time) {
  if (!player.isReady) return say(CLOSED, true);
  select(key);
  const rounded = Math.round(time * 1e6) / 1e6;
  if (model.tables.points[key]?.time !== rounded) changePoint({ time: rounded }, `Moved to ${clock(time)}`);
}

function nudge(frames) {
  const point = model.tables.points[selected];
  if (!point) return say("Select a point first: [ and ] go from one to the next");
  if (!player.isReady) return say(CLOSED, true);
  const index = Math.max(0, Math.min(player.times.length - 1, player.nearest(point.time) + frames));
  movePoint(selected, player.times[index]);
  player.pause();
  player.seek(index);
}

function removePoint() {
  if (!model.tables.points[selected]) return say("Select a point first: [ and ] go from one to the next");
  const { class: name, time } = model.tables.points[selected];
  submit([{ table: "points", key: selected, after: null }]);
  select(null);
  say(`${name} at ${clock(time)} deleted; Ctrl+Z brings it back`);
}

function neighborPoint(direction) {
  const points = pointsOf(video().id);
  const now = player.times[player.onScreen()] ?? 0;
  const current = points.findIndex(([key]) => key === selected);
  const isHere = current >= 0 && Math.abs(points[current][1].time - now) < 1e-4;
  let next;
  if (isHere) next = points[current + direction];
  else if (direction > 0) next = points.find(([, point]) => point.time > now + 1e-4);
  else next = points.findLast(([, point]) => point.time < now - 1e-4);
  player.pause();
  if (next) select(next[0], true);
  else say(direction > 0 ? "No later point" : "No earlier point");
}

async function addNamed() {
  player.pause();
  const index = player.index;
  const name = await pickClass("Add a point of which class?");
  if (name) addPoint(tidyName(name), index);
}

async function changeClass() {
  if (review.item) return answer("other");
  if (!model.tables.points[selected]) return say("Select a point first: [ and ] go from one to the next");
  player.pause();
  const name = await pickClass("Which class is it?");
  if (!name) return;
  ensureClass(name);
  changePoint({ class: name }, `Now ${name}`);
}

async function note() {
  const point = model.tables.points[selected];
  if (!point) return say("Select a point first: [ and ] go from one to the next");
  player.pause();
  const text = await askNote(point.note);
  if (text !== null) changePoint({ note: text.replace(/\s+/gu, " ").slice(0, 2000) }, text ? "Noted" : "Note deleted");
}

function toggleDone() {
  const { id } = video();
  const isDone = !model.tables.done[id];
  submit([{ table: "done", key: id, after: isDone || null }]);
  say(isDone ? `${id} is done` : `${id} is not done`);
}

async function undo(direction) {
  if (!(direction === "undo" ? model.canUndo : model.canRedo)) return say(`Nothing to ${direction}`);
  try {
    const changed = await go(direction);
    const change = changed.find((item) => item.table === "points") || changed[0];
    if (!change) return say(`Nothing to ${direction} there: it was changed elsewhere since`);
    const point = change.table === "points" && (change.after || change.before);
    if (point && model.numbers.has(point.video_id)) {
      await open(model.numbers.get(point.video_id), point.time);
      select(change.after ? change.key : null, true);
      say(`${direction === "undo" ? "Undone" : "Redone"}: ${point.class} at ${clock(point.time)}`);
    } else say(direction === "undo" ? "Undone" : "Redone");
    drawAll();
  } catch (error) {
    say(error.message, true);
  }
}

// ---- suggestions and detections ----

async function answer(kind) {
  if (kind === "next") return review.step(1);
  if (kind === "back") return review.step(-1);
  const { item } = review;
  if (!item) return say("Nothing is asked: . goes to the next one");
  if (!player.isReady) return say(CLOSED, true);
  if (kind === "around") return playAround(item);
  const values = {};
  if (kind === "move") values.time = player.times[player.onScreen()];
  if (kind === "rather") {
    if (!item.otherClass && (item.otherTime ?? null) === null) return;
    if (item.otherClass) values.label = item.otherClass;
    if ((item.otherTime ?? null) !== null) values.time = player.times[player.nearest(item.otherTime)];
    kind = values.time === undefined ? "other" : "move";
  } else if (kind === "other" || (!item.class && (kind === "yes" || kind === "move"))) {
    player.pause();
    const name = await pickClass("Which class is it?");
    if (!name) return;
    ensureClass(name);
    values.label = name;
  }
  player.pause();
  review.answer(kind, values);
  review.step(1);
}

function playAround(item) {
  player.seek(player.frameAt(Math.max(0, (item.start ?? item.time ?? 0) - 1.5)));
  untilSeconds = (item.end ?? item.time ?? 0) + 1.5;
  player.play();
}

function drawAll() {
  panel.drawClasses();
  panel.drawPoints();
  list.classes([...model.names, model.background]);
  review.draw();
  if (!review.item) timeline.marked = null;
  timeline.draw();
  const [done, points, videos] = [model.tables.done, model.tables.points, model.videos].map((items) => Object.keys(items).length);
  const [doneText, pointsText, videosText] = [done, points, videos].map((count) => count.toLocaleString("en"));
  $("counts").textContent = `${doneText} of ${videosText} videos done · ${pointsText} points`;
  $("bar").style.width = `${(100 * done) / Math.max(1, videos)}%`;
  const isDone = Boolean(video() && model.tables.done[video().id]);
  $("done").ariaPressed = String(isDone);
  $("done-text").textContent = isDone ? "Done" : "Mark as done";
  $("undo").disabled = !model.canUndo;
  $("redo").disabled = !model.canRedo;
}

function drawState() {
  $("play").ariaLabel = player.isPlaying ? "Pause" : "Play";
  $("play-icon").setAttribute("href", player.isPlaying ? "#icon-pause" : "#icon-play");
  $("time").textContent = clock(player.seconds, 3);
  $("duration").textContent = clock(player.duration);
  $("frame").textContent = player.times.length ? `frame ${player.index + 1} of ${player.times.length}` : "";
  $("speed").textContent = `${player.direction < 0 ? "−" : ""}${player.speed}×`;
  $("mute-icon").setAttribute("href", player.video.muted ? "#icon-muted" : "#icon-sound");
  if (untilSeconds !== null && (player.seconds >= untilSeconds || !player.isPlaying)) {
    if (player.isPlaying) player.pause();
    untilSeconds = null;
  }
  timeline.follow();
}

function tick() {
  if (player.isPlaying) drawState();
  requestAnimationFrame(tick);
}

// ---- keys ----

const FORWARD = () => {
  if (!player.isPlaying || player.direction < 0) player.play();
  else player.setSpeed(Math.min(8, player.speed * 2));
};
const BACKWARD = () => {
  if (player.direction < 0) player.setSpeed(Math.min(8, player.speed * 2));
  else player.backwards();
};
const ACTIONS = {
  play: () => player.toggle(), forward: FORWARD, backward: BACKWARD, stop: () => player.pause(),
  "frame-back": () => player.step(-1), "frame-on": () => player.step(1),
  "second-back": () => player.jump(-1), "second-on": () => player.jump(1),
  "ten-back": () => player.jump(-10), "ten-on": () => player.jump(10),
  start: () => player.seek(0), end: () => player.seek(player.times.length - 1),
  slower: () => player.changeSpeed(-1), faster: () => player.changeSpeed(1), normal: () => player.setSpeed(1),
  "point-back": () => neighborPoint(-1), "point-on": () => neighborPoint(1),
  add: addNamed, class: changeClass, note, remove: removePoint, done: toggleDone,
  move: () => (review.item ? answer("move") : movePoint(selected, player.times[player.onScreen()])),
  "nudge-back": () => nudge(-1), "nudge-on": () => nudge(1),
  "zoom-in": () => timeline.zoom(2), "zoom-out": () => timeline.zoom(0.5), fit: () => timeline.fit(),
  "video-back": () => list.neighbor(-1), "video-on": () => list.neighbor(1),
  undo: () => undo("undo"), redo: () => undo("redo"),
  yes: () => answer("yes"), no: () => answer("no"), next: () => answer("next"), back: () => answer("back"),
  around: () => answer("around"), rather: () => { if (review.item) answer("rather"); },
  search: () => { showList(true); $("search").focus(); $("search").select(); }, help: () => $("help").showModal(),
  mute: () => { player.video.muted = !player.video.muted; drawState(); },
  list: () => showList(!document.body.classList.contains("with-list")),
};
const PLAIN = {
  " ": "play", l: "forward", j: "backward", k: "stop", ArrowLeft: "frame-back", ArrowRight: "frame-on",
  Home: "start", End: "end", "-": "slower", "+": "faster", "=": "faster", "\\": "normal",
  "[": "point-back", "]": "point-on", a: "add", c: "class", n: "note", m: "move", d: "done",
  Delete: "remove", Backspace: "remove", "<": "nudge-back", ">": "nudge-on", z: "zoom-in", "/": "search", "?": "help",
  PageUp: "video-back", PageDown: "video-on", y: "yes", x: "no", ".": "next", ",": "back", p: "around",
  Enter: "rather",
};
const SHIFTED = { ...PLAIN, ArrowLeft: "second-back", ArrowRight: "second-on", Z: "zoom-out", F: "fit" };

// Keys that go on while they are held.
const HELD = new Set([
  ...["frame-back", "frame-on", "second-back", "second-on", "ten-back", "ten-on", "slower", "faster", "point-back"],
  ...["point-on", "nudge-back", "nudge-on", "zoom-in", "zoom-out", "undo", "redo"],
]);

function actionOf(event) {
  if (event.ctrlKey || event.metaKey) {
    const key = event.key.toLowerCase();
    if (key === "z") return event.shiftKey ? "redo" : "undo";
    if (key === "y") return "redo";
    return { arrowleft: "ten-back", arrowright: "ten-on" }[key];
  }
  if (event.altKey) return undefined;
  return (event.shiftKey ? SHIFTED : PLAIN)[event.key] ?? (event.shiftKey ? undefined : PLAIN[event.key.toLowerCase()]);
}

function onKey(event) {
  if (document.querySelector("dialog[open]") || isTyping(event.target) || event.isComposing) return;
  const isButton = event.target.matches?.("button, a, summary");
  if (isButton && (event.key === " " || event.key === "Enter")) return; // the button's own
  const action = actionOf(event);
  if (action) {
    event.preventDefault();
    if (!event.repeat || HELD.has(action)) ACTIONS[action]();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const found = classes().find(({ key }) => key && key === event.key.toLowerCase());
  if (found) {
    event.preventDefault();
    addPoint(found.name);
  } else if (KEYS.includes(event.key.toLowerCase())) {
    say(`No class has the key ${event.key}, and no point is set: A names a class`); // a press that saves nothing says so
  }
}

function showList(isShown) {
  document.body.classList.toggle("with-list", isShown);
  $("show-list").ariaExpanded = String(isShown);
}

// Before anything else is done: the frame that is seen, not the one that has come meanwhile.
function notice() {
  pressedFrame = player.isPlaying && player.isReady ? player.onScreen() : null;
}

function wire() {
  for (const kind of ["keydown", "pointerdown"]) window.addEventListener(kind, notice, true);
  for (const kind of ["keydown", "click"]) window.addEventListener(kind, () => { pressedFrame = null; });
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do]");
    if (button) ACTIONS[button.dataset.do]();
    // A button that was clicked does not keep the space bar; one that the keyboard came to does.
    if (event.detail > 0) event.target.closest("button")?.blur();
  });
  $("screen").addEventListener("click", () => player.toggle());
  player.addEventListener("state", drawState);
  player.addEventListener("ready", () => { $("warning").textContent = player.facts.warning; review.draw(); });
  player.addEventListener("state", () => {
    if (player.facts && timeline.ready.number !== player.facts) {
      timeline.ready.number = player.facts;
      timeline.ready();
      review.draw();
    }
  });
  player.addEventListener("copied", () => timeline.draw());
  player.addEventListener("message", ({ detail }) => {
    $("message").hidden = !detail.text;
    $("message-text").textContent = detail.text;
    $("message").classList.toggle("problem", detail.isProblem);
    $("message-bar").hidden = detail.share === null;
    $("message-bar").value = detail.share ?? 0;
  });
  timeline.addEventListener("select", ({ detail }) => { player.pause(); select(detail, true); });
  timeline.addEventListener("move", ({ detail }) => movePoint(detail.key, detail.time));
  list.addEventListener("open", ({ detail }) => { showList(false); open(detail); });
  panel.addEventListener("class", ({ detail }) => addPoint(detail));
  panel.addEventListener("select", ({ detail }) => { player.pause(); select(detail, true); });
  panel.addEventListener("new", addNamed);
  review.addEventListener("answer", ({ detail }) => answer(detail));
  review.addEventListener("problem", ({ detail }) => say(detail, true));
  review.addEventListener("go", async ({ detail }) => {
    const number = model.numbers.get(detail.video_id);
    if (number === undefined) return say(`${detail.video_id} is not among the videos`, true);
    timeline.marked = null;
    await open(number, detail.time ?? 0);
    timeline.marked = detail.time === null ? null : detail;
    if (detail.time !== null && timeline.span > 20) timeline.look(detail.time - 5, 10);
    timeline.draw();
  });
  events.addEventListener("change", () => {
    if (selected && !model.tables.points[selected]) select(null);
    drawAll();
  });
  events.addEventListener("problem", ({ detail }) => say(detail, true));
  events.addEventListener("status", ({ detail }) => {
    $("status").className = detail.kind;
    $("status-text").textContent = detail.text;
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
  $("scrim").addEventListener("click", () => showList(false));
  window.addEventListener("beforeunload", (event) => {
    if (["lost", "saving"].includes($("status").className)) event.preventDefault();
  });
}

async function start() {
  try {
    await load();
  } catch (error) {
    document.body.replaceChildren(element("p", "fatal", `The labels cannot be read: ${error.message}`));
    return;
  }
  document.title = `${model.file} – hrpro label`;
  $("file").textContent = model.file;
  $("file").title = `${model.folder}/${model.file}`;
  player = new Player($("video"));
  timeline = new Timeline($("timeline"), player);
  list = new VideoList();
  panel = new Panel();
  review = new Review(player);
  wire();
  list.filter();
  const last = model.numbers.get(sessionStorage.getItem("video"));
  const firstOpen = model.videos.findIndex((item) => !model.tables.done[item.id]);
  open(last ?? Math.max(0, firstOpen));
  await review.load();
  if (model.has_suggestions) review.step(1);
  window.hrpro = { player, model, timeline, list, review }; // for the curious, and for tests
  tick();
}

start();
