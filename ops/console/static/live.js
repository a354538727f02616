// Keeps the parts of a page current that say so (data-live: seconds, 0 for no more), without moving the focus.
"use strict";

async function renew() {
  const answer = await fetch(location.pathname + location.search, { signal: AbortSignal.timeout(10000) });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = page.getElementById(old.id);
    if (!now || old.contains(document.activeElement)) continue;
    if (now.innerHTML !== old.innerHTML) old.innerHTML = now.innerHTML;
    old.dataset.live = now.dataset.live;
  }
}

(async () => {
  for (;;) {
    const part = document.querySelector('[data-live]:not([data-live="0"])');
    if (!part) return;
    await new Promise((resolve) => setTimeout(resolve, Number(part.dataset.live) * 1000));
    try {
      if (!document.hidden) await renew();
    } catch {
      // the next turn asks again
    }
  }
})();
