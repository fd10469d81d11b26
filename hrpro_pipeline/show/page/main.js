// Pages, keys, and the start.

function openPage() {
  const isSummary = location.hash === "#summary";
  byId("page-summary").hidden = !isSummary;
  byId("page-videos").hidden = isSummary;
  for (const link of document.querySelectorAll("nav a")) {
    if ((link.hash === "#summary") === isSummary) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (isSummary) {
    player.pause();
    if (!charts.length) buildSummary();
    else document.querySelectorAll(".chart").forEach((node) => Plotly.Plots.resize(node));
  } else if (videos.length) {
    let index = -1;
    if (location.hash.startsWith("#video=")) {
      try {
        const name = decodeURIComponent(location.hash.slice("#video=".length));
        index = videos.findIndex((video) => video.id === name);
      } catch { /* not an address of ours */ }
    }
    if (index >= 0 || state.video < 0) openVideo(Math.max(index, 0));
    else drawTimeline();
  }
}

const KEYS = {
  ArrowDown: () => stepVideo(1), j: () => stepVideo(1), ArrowUp: () => stepVideo(-1), k: () => stepVideo(-1),
  ArrowRight: () => stepDetection(1), ArrowLeft: () => stepDetection(-1), " ": toggle,
  Enter: () => { if (state.detection >= 0) selectDetection(state.detection, true); },
  "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => showSeconds(videos[state.video].range),
  "/": () => {
    byId("chooser").open = true;
    byId("search").focus();
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("page-videos").hidden || !videos.length) return;
  const { key, target } = event;
  if (key === "Escape") {
    for (const popup of [byId("filter"), byId("help")]) popup.open = false;
    if (target === byId("search")) target.blur();
    return;
  }
  if (target === byId("search")) {
    if (key === "Enter") {
      const first = videos.findIndex((_, index) => !list.children[index].hidden);
      if (first >= 0) openVideo(first);
      target.blur();
    }
    if (key !== "ArrowDown" && key !== "ArrowUp") return;
  } else if (target.matches("input, video") && (key === " " || key.startsWith("Arrow"))) {
    return; // the slider, a box or the player uses the key itself
  } else if (target.matches("button, a, summary") && (key === " " || key === "Enter")) {
    return;
  }
  const act = KEYS[key];
  if (!act) return;
  event.preventDefault();
  act();
});

buildList();
buildControls();
document.body.classList.toggle("without-kinds", !diagnosis);
document.body.classList.toggle("without-answer", !data.hasAnswer);
byId("chooser").open = !narrow.matches;
narrow.addEventListener("change", () => { byId("chooser").open = !narrow.matches; });
byId("video").hidden = !videos.length;
byId("none-found").hidden = videos.length > 0;
if (!videos.length) byId("none-found").textContent = "There are no videos.";
addEventListener("hashchange", openPage);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (state.video >= 0 && !byId("page-videos").hidden) drawTimeline();
  if (charts.length) drawCharts();
});
applyFilters();
openPage();

let lastWidth = plot.clientWidth;
new ResizeObserver(() => {
  if (plot.clientWidth && plot.clientWidth !== lastWidth && state.video >= 0) drawTimeline();
  lastWidth = plot.clientWidth || lastWidth;
}).observe(plot);
