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

function milliseconds(seconds) {
  if (seconds === null) return "–";
  const amount = seconds * 1000;
  return `${amount < 10 ? amount.toFixed(1) : figures.format(Math.round(amount))} ms`;
}

function showStanding(line, standing) {
  const wording = { acknowledged: count, acknowledged_p50: milliseconds, acknowledged_p99: milliseconds };
  for (const cell of line.querySelectorAll("[data-standing]")) {
    set(cell, wording[cell.dataset.standing](standing[cell.dataset.standing]));
  }
  const budget = line.querySelector("[data-budget]");
  if (budget && standing.budget_limit) {
    const account = document.createElement("span");
    account.className = "muted";
    account.textContent = standing.budget_account;
    budget.replaceChildren(`${count(standing.budget_left)} of ${count(standing.budget_limit)} `, account);
  }
  const circuit = line.querySelector("[data-circuit]");
  if (circuit && standing.circuits_open !== null) {
    const badge = document.createElement("span");
    badge.className = standing.circuits_open ? "badge failed" : "badge done";
    badge.textContent = standing.circuits_open ? `${count(standing.circuits_open)} of ${count(standing.accounts)} open` : "closed";
    circuit.replaceChildren(badge);
  }
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
    for (const line of document.querySelectorAll(`tr[data-provider="${CSS.escape(row.provider)}"]`)) {
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
      showStanding(line, row.standing);
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
