// Loads the page again after the seconds that it names: what was away may be back.
"use strict";

const waiting = document.querySelector("[data-again]");
if (waiting) setTimeout(() => location.reload(), Number(waiting.dataset.again) * 1000);
