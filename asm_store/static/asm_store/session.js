/* The page of a session: keys, raw JSON on demand, new events as they come. Nothing is needed of it. */
"use strict";
(() => {
  const entries = document.getElementById("asm-entries");
  if (!entries) return;

  const all = () => [...entries.querySelectorAll(".asm-entry")];
  const entryOf = (id) => document.getElementById(id)?.closest("#asm-entries > .asm-entry");

  // Keys. Who types by voice, or types much, switches them off: the browser remembers it.

  const keys = document.getElementById("asm-keys");
  const remembered = (() => {
    try {
      return window.localStorage;
    } catch {
      return null; // forbidden here
    }
  })();
  if (keys) {
    keys.checked = remembered?.getItem("asm-keys") !== "off";
    keys.addEventListener("change", () => remembered?.setItem("asm-keys", keys.checked ? "on" : "off"));
  }

  function move(step) {
    const shown = all();
    const now = shown.indexOf(document.activeElement.closest(".asm-entry"));
    const next = now < 0 ? (step > 0 ? 0 : shown.length - 1) : now + step;
    if (shown[next]) {
      shown[next].focus();
      return;
    }
    const link = document.querySelector(step > 0 ? 'a[rel="next"]' : 'a[rel="prev"]:not([hidden])');
    if (link) link.click();
  }

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || (keys && !keys.checked)) return;
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else return;
    event.preventDefault();
  });

  // Raw JSON.

  const tell = (link) => link.setAttribute("aria-expanded", String(!!link.closest(".asm-entry").querySelector(".asm-json")));
  entries.querySelectorAll("a.asm-raw").forEach(tell);

  entries.addEventListener("click", async (event) => {
    const link = event.target.closest("a.asm-raw");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const entry = link.closest(".asm-entry");
    const old = entry.querySelector(".asm-json");
    if (old) {
      old.remove();
      tell(link);
      return;
    }
    const answer = await fetch(link.href, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) {
      location.href = link.href;
      return;
    }
    const shown = document.createElement("pre");
    shown.className = "asm-json";
    shown.tabIndex = 0;
    shown.textContent = await answer.text();
    entry.append(shown);
    tell(link);
  });

  const anchor = location.hash && document.getElementById(location.hash.slice(1));
  if (anchor) (anchor.closest(".asm-entry") || anchor).focus();

  // News.

  const news = entries.dataset.news;
  if (!news) return;
  const live = document.getElementById("asm-live");
  const MOST = 500; // entries that are kept, and twice as many while they are looked at
  const SLOWEST = 60_000;
  const LOST = new Set([401, 403, 404, 410]); // logged out, forbidden, or gone
  let failures = 0;

  // The server has escaped what it is made of, as in the page itself.
  const policy = window.trustedTypes?.createPolicy("asm-store", { createHTML: (html) => html });
  function parsed(html) {
    const template = document.createElement("template");
    template.innerHTML = policy ? policy.createHTML(html) : html;
    return template.content;
  }

  function put(entry) {
    const old = entryOf(entry.id);
    if (old && old.dataset.last === entry.dataset.last) return false;
    const hadFocus = old?.contains(document.activeElement);
    const open = [...(old?.querySelectorAll("details") ?? [])].map((part) => part.open);
    if (old) old.replaceWith(entry);
    else entries.append(entry);
    entry.querySelectorAll("details").forEach((part, number) => {
      part.open = open[number] ?? part.open;
    });
    entry.querySelectorAll("a.asm-raw").forEach(tell);
    if (hadFocus) entry.focus();
    return true;
  }

  function forget() {
    const shown = all();
    for (const entry of shown.slice(0, Math.max(0, shown.length - MOST))) {
      if (entry.getBoundingClientRect().bottom > 0 || entry.contains(document.activeElement)) break;
      entry.remove();
    }
    const [first] = all();
    if (first === shown[0]) return;
    for (const link of document.querySelectorAll('a[rel="prev"]')) {
      link.href = `?before=${first.id.slice(1)}`;
      link.hidden = false;
    }
  }

  function show(said) {
    const added = [...parsed(said.html).querySelectorAll(".asm-entry")].map(put);
    const status = document.getElementById("asm-status");
    const badge = parsed(said.status);
    if (badge.textContent !== status.textContent) status.replaceChildren(badge);
    entries.dataset.last = said.last;
    if (!added.includes(true)) return;
    live.textContent = entries.dataset.added;
    forget();
  }

  /* Whether there is to be another look, and after how long. */
  async function look() {
    const usual = Number(entries.dataset.poll);
    if (all().length >= 2 * MOST) return usual; // it goes on when the first of them are out of sight
    let answer;
    try {
      answer = await fetch(`${news}?after=${entries.dataset.last}`, { credentials: "same-origin" });
      if (LOST.has(answer.status) || answer.redirected) {
        live.textContent = entries.dataset.stopped;
        return null;
      }
      if (!answer.ok) throw new Error(answer.status);
      answer = await answer.json();
    } catch {
      failures += 1; // of the network, or of the server: later again
      return Math.min(SLOWEST, usual * 2 ** failures);
    }
    failures = 0;
    show(answer);
    if (answer.has_more) return 0;
    if (answer.has_ended) {
      live.textContent = "";
      return null;
    }
    return usual;
  }

  async function again() {
    forget();
    const pause = await look();
    if (pause !== null) setTimeout(again, document.hidden ? pause * 5 : pause);
  }
  setTimeout(again, Number(entries.dataset.poll));
})();
