// The list of videos, slider and filter, and the table of the open video's detections.

const list = byId("list");
const boxes = [];
let tableLater = 0;

function buildList() {
  list.append(...videos.map((video, index) =>
    make("li", { role: "option", id: `option-${index}`, "aria-selected": "false" }, video.id,
      make("span", { className: "dim" }))));
  list.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (!item) return;
    if (narrow.matches) byId("chooser").open = false;
    openVideo(Number(item.id.slice("option-".length)));
  });
}

function countList() {
  videos.forEach((video, index) => {
    const truth = video.truth.length ? ` · ${video.truth.length} true` : "";
    list.children[index].lastChild.textContent = `${countVisible(video)} shown${truth}`;
  });
}

function findVideos() {
  const query = byId("search").value.trim().toLowerCase();
  let numMatches = 0;
  videos.forEach((video, index) => {
    const isMatch = video.id.toLowerCase().includes(query);
    list.children[index].hidden = !isMatch;
    numMatches += isMatch;
  });
  byId("none-found").hidden = numMatches > 0;
}

// The next video of the list in a direction, of those that the search lets through.
function stepVideo(direction) {
  for (let index = state.video + direction; index >= 0 && index < videos.length; index += direction) {
    if (!list.children[index].hidden) {
      openVideo(index);
      return;
    }
  }
}

function openVideo(index) {
  if (!videos[index]) return;
  list.children[state.video]?.setAttribute("aria-selected", "false");
  Object.assign(state, { video: index, detection: -1, view: [...videos[index].range], time: 0 });
  const item = list.children[index];
  item.setAttribute("aria-selected", "true");
  list.setAttribute("aria-activedescendant", item.id);
  if (!narrow.matches || byId("chooser").open) item.scrollIntoView({ block: "nearest" });
  const video = videos[index];
  byId("name").textContent = video.id;
  byId("previous").disabled = index === 0;
  byId("next").disabled = index === videos.length - 1;
  byId("no-curves").hidden = Boolean(video.curves);
  byId("has-curves").hidden = !video.curves;
  byId("has-truth").hidden = !video.truth.length;
  byId("has-points").hidden = !video.points.length;
  history.replaceState(null, "", `#video=${encodeURIComponent(video.id)}`);
  load(video);
  drawVideo();
}

function drawVideo() {
  drawTimeline();
  const video = videos[state.video];
  const indices = visibleDetections(video);
  clearTimeout(tableLater); // hundreds of rows take longer than the timeline: they wait until the slider rests
  if (indices.length <= 100) drawTable();
  else tableLater = setTimeout(drawTable, 60);
  const detected = video.truth.filter((item) =>
    indices.some((index) => video.detections[index][0] === item[0] && overlap(video.detections[index], item) >= 0.5));
  byId("facts").textContent = [
    `${indices.length} of ${count(video.detections.length, "detection")}`,
    video.truth.length && `${detected.length} of ${count(video.truth.length, "true segment")} found at tIoU 0.5`,
    `${video.range[1].toFixed(1)} s`, video.about, video.partial && `in part: ${video.partial}`,
  ].filter(Boolean).join(" · ");
}

// Draws what depends on the slider and the filter.
function applyFilters() {
  byId("lowest").value = state.lowest.toFixed(2);
  byId("num-classes").textContent = state.hidden.size
    ? `${classes.length - state.hidden.size} of ${classes.length}` : `${classes.length}`;
  countList();
  if (state.video >= 0) drawVideo();
}

function drawTable() {
  const video = videos[state.video];
  const order = byTime(video);
  byId("none-shown").hidden = order.length > 0;
  byId("detections").hidden = !order.length;
  byId("detections").tBodies[0].replaceChildren(...order.map((index) => {
    const [label, start, end, score, kind, probability] = video.detections[index];
    const name = classes[label].label;
    const button = make("button", { type: "button", "aria-label": `Play ${name} at ${clock(start, 1)}` }, "▶");
    const kindName = kind !== null && kind >= 0 ? kinds[kind] : "";
    return make("tr", { "data-index": index, "aria-selected": String(index === state.detection) },
      make("td", {}, button), make("td", { title: name }, swatch(label), name,
      make("span", { className: "kind dim" }, kindName)), make("td", {}, clock(start)),
      make("td", {}, clock(end)), make("td", {}, score.toFixed(3)),
      make("td", { className: "answer" }, probability === null ? "" : `${percent(probability)}%`),
      make("td", { className: "kind" }, kindName));
  }));
}

const byTime = (video) =>
  visibleDetections(video).sort((one, other) => video.detections[one][1] - video.detections[other][1] || one - other);

// Selects a detection: the video is sought to its start, and played to its end if asked.
function selectDetection(index, isPlayed) {
  const [, start, end] = videos[state.video].detections[index];
  state.detection = index;
  for (const row of byId("detections").tBodies[0].rows) {
    const isSelected = Number(row.dataset.index) === index;
    row.setAttribute("aria-selected", String(isSelected));
    if (isSelected) scrollWithin(byId("listing"), row);
  }
  if (isPlayed) play(start, end);
  else seek(start);
  placeOverlays();
}

// As scrollIntoView, but never moves the page.
function scrollWithin(box, row) {
  const head = box.querySelector("thead").offsetHeight;
  const [top, bottom] = [row.offsetTop - head, row.offsetTop + row.offsetHeight - box.clientHeight];
  if (box.scrollTop > top) box.scrollTop = top;
  else if (box.scrollTop < bottom) box.scrollTop = bottom;
}

function stepDetection(direction) {
  const video = videos[state.video];
  const order = byTime(video);
  if (!order.length) return;
  let at = order.indexOf(state.detection);
  if (at < 0) { // none is selected: from the cursor
    const after = order.findIndex((index) => video.detections[index][1] >= state.time);
    at = direction > 0 ? (after < 0 ? order.length : after) - 1 : after < 0 ? order.length : after;
  }
  selectDetection(order[Math.min(Math.max(at + direction, 0), order.length - 1)], false);
}

function buildControls() {
  const slider = byId("score");
  slider.min = data.scores.lowest;
  slider.max = data.scores.highest;
  slider.value = state.lowest;
  let waiting = 0; // a dragged slider reports more often than the screen is drawn
  const later = () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(applyFilters);
  };
  slider.addEventListener("input", () => {
    state.lowest = Number(slider.value);
    later();
  });
  const answer = byId("answer");
  answer.checked = slider.disabled = state.answer;
  answer.addEventListener("change", () => {
    state.answer = slider.disabled = answer.checked;
    later();
  });
  classes.forEach(({ label }, index) => {
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (box.checked) state.hidden.delete(index);
      else state.hidden.add(index);
      later();
    });
    boxes.push(box);
    byId("filter").querySelector("fieldset").append(make("label", {}, box, swatch(index), label));
  });
  for (const button of document.querySelectorAll("button[data-all]")) {
    button.addEventListener("click", () => {
      boxes.forEach((box, index) => {
        box.checked = Boolean(button.dataset.all);
        if (box.checked) state.hidden.delete(index);
        else state.hidden.add(index);
      });
      applyFilters();
    });
  }
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("click", (event) => { // a pop-up closes when something else is clicked
    for (const popup of [byId("filter"), byId("help")]) if (!popup.contains(event.target)) popup.open = false;
  });
  byId("search").addEventListener("input", findVideos);
  byId("previous").addEventListener("click", () => stepVideo(-1));
  byId("next").addEventListener("click", () => stepVideo(1));
  byId("zoom-in").addEventListener("click", () => zoom(0.5));
  byId("zoom-out").addEventListener("click", () => zoom(2));
  byId("zoom-all").addEventListener("click", () => showSeconds(videos[state.video].range));
  byId("detections").tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) selectDetection(Number(row.dataset.index), true);
  });
}
