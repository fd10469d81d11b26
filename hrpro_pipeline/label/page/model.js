// What is labeled: the server's tables here, changes on their way there, and what others changed meanwhile.
import { get, post } from "./api.js";

const POLL_MS = 700;
const AT_ONCE = 100; // groups of changes in a request
export const KEYS = "1234567890qwertuiosfghvb"; // that classes get by themselves; the others have a meaning
export const events = new EventTarget(); // "change", "status", "problem"
export const model = { videos: [], tables: null, names: [], numbers: new Map(), byVideo: new Map() };

let sequence = 0;
let waiting = []; // groups of changes that are not on disk yet, the oldest one first; one is undone at a time
let isSending = false;
let status = { kind: "saved", text: "All changes saved" };

export async function load() {
  Object.assign(model, await get("state"));
  model.videos.forEach((video, number) => Object.assign(video, { number }));
  model.numbers = new Map(model.videos.map((video) => [video.id, video.number]));
  takeAll(model);
  nameClasses();
  setTimeout(poll, POLL_MS);
}

function takeAll(state) {
  // Without a prototype: a video may be called "constructor".
  const bare = ([name, values]) => [name, Object.assign(Object.create(null), values)];
  model.tables = Object.fromEntries(Object.entries(state.tables).map(bare));
  sequence = state.sequence;
  takePosition(state);
  model.byVideo = new Map();
  for (const [key, point] of Object.entries(model.tables.points)) index(key, null, point);
  for (const changes of waiting) changes.forEach((change) => set(change.table, change.key, change.after));
}

function takePosition(answer) {
  model.canUndo = answer.undo > 0;
  model.canRedo = answer.redo > 0;
}

function index(key, before, after) {
  if (before) model.byVideo.get(before.video_id)?.delete(key);
  if (!after) return;
  if (!model.byVideo.has(after.video_id)) model.byVideo.set(after.video_id, new Map());
  model.byVideo.get(after.video_id).set(key, after);
}

function set(table, key, value) {
  const values = model.tables[table];
  if (table === "points") index(key, values[key], value);
  if (value === null) delete values[key];
  else values[key] = value;
}

// Points of a video by time, as [key, point].
export function pointsOf(videoId) {
  return [...(model.byVideo.get(videoId) || [])].sort((one, other) => one[1].time - other[1].time);
}

export function countOf(videoId) {
  return model.byVideo.get(videoId)?.size || 0;
}

export const isPending = (key) => waiting.some((changes) => changes.some((change) => change.key === key));

// Classes in the order in which they came up, each with its key and color.
export function classes() {
  return model.names.map((name, place) => ({
    name, key: model.tables.classes[name]?.key || "", color: model.palette[place % model.palette.length],
  }));
}

export function colorOf(name) {
  if (name === model.background) return "#8b949e";
  const place = model.names.indexOf(name);
  return model.palette[Math.max(0, place) % model.palette.length];
}

export const tidyName = (text) => text.normalize("NFC").replace(/\s+/gu, " ").trim().slice(0, 200);

// As training compares names: those that differ only in case, spaces, hyphens or underscores are one class.
export const spelling = (name) => name.replace(/[\s_-]+(?=\p{L})/gu, " ").toLowerCase();

// Every class has an entry with a key, also one that came with a file.
function nameClasses() {
  const names = new Set([...Object.keys(model.tables.classes), ...(model.classes || [])]);
  for (const point of Object.values(model.tables.points)) names.add(point.class);
  names.delete(model.background);
  model.names = [...names];
  const missing = model.names.filter((name) => !model.tables.classes[name]);
  if (missing.length) submit(missing.map((name) => addedClass(name)));
}

export function freeKey(taken = []) {
  const used = new Set([...Object.values(model.tables.classes).map((value) => value.key), ...taken]);
  return [...KEYS].find((key) => !used.has(key)) || "";
}

function addedClass(name) {
  const change = { table: "classes", key: name, before: null, after: { key: freeKey() } };
  model.tables.classes[name] = change.after;
  return change;
}

export function ensureClass(name) {
  if (name === model.background || model.tables.classes[name]) return;
  submit([addedClass(name)]);
}

// Change values at once here, and on disk as soon as the server has them. `before` is filled in.
export function submit(changes) {
  for (const change of changes) {
    if (change.before === undefined) change.before = model.tables[change.table][change.key] ?? null;
    set(change.table, change.key, change.after);
    if (change.table === "classes" && change.after && !model.names.includes(change.key)) model.names.push(change.key);
  }
  waiting.push(changes);
  tell("saving", "Saving …");
  announce(changes);
  send();
}

async function send() {
  if (isSending) return;
  isSending = true;
  let most = AT_ONCE;
  while (waiting.length) {
    const groups = waiting.slice(0, most);
    try {
      take(await post("change", { after: sequence, groups }), groups.length);
    } catch (error) {
      if (!error.isRefusal) {
        tell("lost", `Not saved: ${waiting.length} changes wait for the server. Is hrpro label still running?`);
        await new Promise((wake) => setTimeout(wake, 1000));
        continue;
      }
      if (groups.length > 1) {
        most = 1; // which of them is refused? What is saved already is left alone.
        continue;
      }
      waiting = waiting.slice(1);
      events.dispatchEvent(new CustomEvent("problem", { detail: `Not saved: ${error.message}` }));
      await reload();
    }
  }
  isSending = false;
  tell("saved", "All changes saved");
}

async function reload() {
  try {
    takeAll(await get("state"));
    nameClasses();
    announce(null);
  } catch { /* the next poll says so */ }
}

// Take over an answer with the changes since the last one; the first `sent` groups were among them.
function take(answer, sent = 0) {
  const changes = answer.entries.flatMap((entry) => entry.changes);
  waiting = waiting.slice(sent);
  for (const change of changes) set(change.table, change.key, change.after);
  for (const group of waiting) group.forEach((change) => set(change.table, change.key, change.after));
  sequence = Math.max(sequence, answer.sequence);
  takePosition(answer);
  if (!changes.length) return;
  if (answer.entries.some((entry) => entry.do === "reload")) {
    nameClasses();
    events.dispatchEvent(new CustomEvent("problem", { detail: `${model.file} was changed outside: taken over` }));
  }
  for (const name of Object.keys(model.tables.classes)) if (!model.names.includes(name)) model.names.push(name);
  model.names = model.names.filter((name) => model.tables.classes[name]);
  announce(changes);
}

async function poll() {
  try {
    if (!isSending) {
      const answer = await get(`changes?after=${sequence}`);
      if (!isSending && answer.sequence >= sequence) take(answer); // a late answer knows less
      if (status.kind === "lost" || status.kind === "broken") tell("saved", "All changes saved");
    }
  } catch (error) {
    if (error instanceof TypeError) tell("lost", "hrpro label has ended: start it again, and open its new address");
    else tell("broken", `Not saved from here on: ${error.message}`);
  }
  setTimeout(poll, POLL_MS);
}

// Undo or redo -> the changes that it made.
export async function go(direction) {
  while (isSending) await new Promise((wake) => setTimeout(wake, 10));
  isSending = true;
  try {
    const answer = await post(direction, { after: sequence });
    take(answer);
    return answer.changed;
  } finally {
    isSending = false;
    if (waiting.length) send();
  }
}

function tell(kind, text) {
  if (status.kind === kind && status.text === text) return;
  status = { kind, text };
  events.dispatchEvent(new CustomEvent("status", { detail: status }));
}

function announce(changes) {
  events.dispatchEvent(new CustomEvent("change", { detail: changes }));
}
