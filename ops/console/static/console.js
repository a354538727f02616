// Keeps the overview current: the counts alone are asked for every two seconds while the page is looked at.
"use strict";

const EVERY = 2000;
const figures = new Intl.NumberFormat("en");
const count = (number) => (number === null ? "–" : figures.format(number));

function age(seconds) {
  if (seconds === null) return "–";
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (left >= size || parts.length) {
      parts.push(`${Math.floor(left / size)} ${unit}`);
      left %= size;
    }
  }
  return [...parts, `${left} s`].slice(0, 2).join(" ");
}

function set(element, text) {
  if (element.textContent === text) return;
  element.textContent = text;
  element.classList.remove("changed");
  void element.offsetWidth; // begins the highlight anew
  element.classList.add("changed");
}

function show(rows) {
  const wording = { oldest_due_seconds: age, queue_length: count, api_calls: count, events_per_call: (n) => n ?? "–" };
  for (const row of rows) {
    const line = document.querySelector(`tr[data-provider="${CSS.escape(row.provider)}"]`);
    if (!line) continue;
    for (const cell of line.querySelectorAll("[data-state]")) {
      const number = row.events[cell.dataset.state];
      set(cell, count(number));
      cell.classList.toggle("none", number === 0);
    }
    for (const cell of line.querySelectorAll("[data-value]")) {
      const name = cell.dataset.value;
      const text = String(wording[name](row[name]));
      if (name === "oldest_due_seconds") cell.textContent = text;
      else set(cell, text);
    }
  }
  for (const sum of document.querySelectorAll("[data-sum]")) {
    set(sum, count(rows.reduce((total, row) => total + row.events[sum.dataset.sum], 0)));
  }
}

async function refresh() {
  const lost = document.getElementById("lost");
  const freshness = document.getElementById("freshness");
  try {
    const answer = await fetch("/api/stats", { signal: AbortSignal.timeout(10000) });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.detail);
    show(found);
    lost.hidden = true;
    freshness.textContent = `Live, ${new Date().toISOString().slice(11, 19)} UTC`;
  } catch (error) {
    lost.textContent = `These figures are not current: ${error.message}`;
    lost.hidden = false;
    freshness.textContent = "Not live";
  }
}

(async () => {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    if (!document.hidden) await refresh();
  }
})();
