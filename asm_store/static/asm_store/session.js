/* The page of a session: keys, raw JSON on demand, new events as they come. Nothing is needed of it. */
"use strict";
(() => {
  const entries = document.getElementById("asm-entries");
  if (!entries) return;

  const all = () => [...entries.querySelectorAll(".asm-entry")];

  function move(step) {
    const shown = all();
    const now = shown.indexOf(document.activeElement.closest(".asm-entry"));
    const next = now < 0 ? (step > 0 ? 0 : shown.length - 1) : now + step;
    if (shown[next]) {
      shown[next].focus();
      return;
    }
    const link = document.querySelector(step > 0 ? 'a[rel="next"]' : 'a[rel="prev"]');
    if (link) link.click();
  }

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else return;
    event.preventDefault();
  });

  entries.addEventListener("click", async (event) => {
    const link = event.target.closest("a.asm-raw");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const entry = link.closest(".asm-entry");
    const old = entry.querySelector(".asm-json");
    if (old) {
      old.remove();
      return;
    }
    const answer = await fetch(link.href, { credentials: "same-origin" });
    if (!answer.ok) {
      location.href = link.href;
      return;
    }
    const shown = document.createElement("pre");
    shown.className = "asm-json";
    shown.tabIndex = 0;
    shown.textContent = await answer.text();
    entry.append(shown);
  });

  const anchor = location.hash && document.getElementById(location.hash.slice(1));
  if (anchor) (anchor.closest(".asm-entry") || anchor).focus();

  const news = entries.dataset.news;
  if (!news) return;
  const live = document.getElementById("asm-live");

  async function look() {
    let pause = Number(entries.dataset.poll);
    try {
      const answer = await fetch(`${news}?after=${entries.dataset.last}`, { credentials: "same-origin" });
      if (!answer.ok || answer.redirected) return; // logged out, or gone
      const said = await answer.json();
      // The server has escaped what it is made of, as in the page itself.
      entries.insertAdjacentHTML("beforeend", said.html);
      document.getElementById("asm-status").innerHTML = said.status;
      entries.dataset.last = said.last;
      if (said.has_more) pause = 0;
      else if (said.has_ended) {
        live.textContent = "";
        return;
      }
    } catch {
      pause *= 5; // the network: later again
    }
    setTimeout(look, document.hidden ? pause * 5 : pause);
  }
  setTimeout(look, Number(entries.dataset.poll));
})();
