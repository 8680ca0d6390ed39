// Has the list follow what happens, once a second, while somebody can see it.
"use strict";
const table = document.querySelector("[data-live]");
if (table) {
  const live = document.getElementById("live"), pause = document.getElementById("pause");
  let paused = false, shown = "";
  const say = (text) => { if (live.textContent !== text) live.textContent = text; };
  const look = async () => {
    if (!paused && !document.hidden) {
      try {
        const answer = await fetch(table.dataset.live, { signal: AbortSignal.timeout(5000) });
        if (!answer.ok) throw new Error();
        const text = await answer.text();
        if (!paused && text !== shown) {
          const focused = table.contains(document.activeElement) ? document.activeElement.id : "";
          table.innerHTML = shown = text; // which the server has escaped
          if (focused) document.getElementById(focused)?.focus();
        }
        if (!paused) say("Live.");
      } catch {
        say("The service does not answer. Trying again …");
      }
    }
    setTimeout(look, 1000);
  };
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    say(paused ? "Paused." : "Live.");
  });
  look();
}
