"use strict";
// The page is whole without this script, which only keeps it up to date.
const PERIOD = 1000;
const view = document.getElementById("view");
const connection = document.getElementById("connection");
const lost = "No answer from confpy: this is how it was.";
// The clock of this machine may differ from that of the server.
let ahead = 0;

function note(text) {
  if (connection.textContent !== text) connection.textContent = text;
}

// As in views.py.
function span(seconds) {
  const size = Math.abs(Math.round(seconds));
  const parts = size < 60 ? [size, "s"] : size < 3600 ? [size / 60, "min"] : size < 172800 ? [size / 3600, "h"] : [size / 86400, "d"];
  return `${Math.floor(parts[0])} ${parts[1]}`;
}

function age() {
  const now = Date.now() + ahead;
  for (const time of document.querySelectorAll("time")) {
    const seconds = (now - Date.parse(time.dateTime)) / 1000;
    const text = seconds >= -0.5 ? `${span(seconds)} ago` : `in ${span(seconds)}`;
    if (time.textContent !== text) time.textContent = text;
  }
}

// What the reader has opened stays open, and what has the focus keeps it.
function replace(text) {
  const parsed = new DOMParser().parseFromString(text, "text/html");
  for (const open of view.querySelectorAll("details[open]")) {
    const same = [...parsed.querySelectorAll("details")].find((one) => one.dataset.key === open.dataset.key);
    if (same) same.open = true;
  }
  const holder = document.activeElement && document.activeElement.closest("#view details");
  const inside = holder && document.activeElement.tagName;
  view.replaceChildren(...parsed.body.childNodes);
  if (holder) {
    const same = [...view.querySelectorAll("details")].find((one) => one.dataset.key === holder.dataset.key);
    const target = same && same.querySelector(inside.toLowerCase());
    if (target) target.focus({preventScroll: true});
  }
}

async function update() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/view", {
      headers: {"If-None-Match": view.dataset.version}, cache: "no-store", signal: AbortSignal.timeout(8000),
    });
    const date = Date.parse(answer.headers.get("Date"));
    if (date) ahead = date - Date.now();
    if (answer.status !== 304) {
      if (!answer.ok && answer.status !== 503) throw new Error(answer.status);
      const version = answer.headers.get("ETag");
      const text = await answer.text();
      if (!version) throw new Error("not a view");
      replace(text);
      view.dataset.version = version;
    }
    note("");
  } catch {
    note(lost);
  }
  age();
}

async function follow() {
  await update();
  setTimeout(follow, PERIOD);
}
document.addEventListener("visibilitychange", update);
follow();
