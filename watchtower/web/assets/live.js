// Live updates: when the tower says that something changed, this page is asked for again, and the parts that differ are
// put in place of the old ones. Without this script the page is complete; it only stands still.
"use strict";
(() => {
  const state = document.getElementById("live-state");
  const PAUSE = 1000; // milliseconds between two drawings at least
  const PATIENCE = 10000;
  const AGAIN = 15000; // milliseconds until a stream that was refused is asked for again
  let due = false;
  let told = 0; // the newest position of the log that the tower spoke of
  let drawing = false;
  let last = 0;
  let timer = 0;

  const say = (kind, text) => {
    document.documentElement.dataset.state = kind;
    if (state.textContent !== text) state.textContent = text;
  };
  const clock = () => new Date().toISOString().slice(11, 19) + " UTC";

  // Focus and scroll position stay: only parts whose text differs are touched, and they are kept themselves.
  const replace = (fresh) => {
    for (const old of document.querySelectorAll("[data-live]")) {
      const next = fresh.querySelector(`[data-live="${old.dataset.live}"]`);
      if (!next || old.outerHTML === next.outerHTML || old.contains(document.activeElement)) continue;
      const imported = document.importNode(next, true);
      for (const name of old.getAttributeNames()) if (!imported.hasAttribute(name)) old.removeAttribute(name);
      for (const name of imported.getAttributeNames()) old.setAttribute(name, imported.getAttribute(name));
      old.replaceChildren(...imported.childNodes);
    }
    document.title = fresh.title;
    document.body.dataset.position = fresh.body.dataset.position;
  };

  const draw = async () => {
    drawing = true;
    due = false;
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
      if (answer.redirected) return location.reload(); // the session is over
      if (!answer.ok) throw new Error(String(answer.status));
      replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      say("live", "Live.");
      // Drawn while the read models were still behind: what woke us may not be on it yet.
      due ||= Number(document.body.dataset.position) < told;
    } catch {
      lost();
    } finally {
      drawing = false;
      last = Date.now();
      if (due) ask();
    }
  };
  const ask = () => {
    due = true;
    if (drawing || timer || document.hidden) return;
    timer = setTimeout(() => { timer = 0; draw(); }, Math.max(0, last + PAUSE - Date.now()));
  };
  const lost = () => {
    if (document.documentElement.dataset.state !== "lost")
      say("lost", `The tower does not answer since ${clock()}. What you see is older than that.`);
  };

  let source = null;
  const hear = (event) => { told = JSON.parse(event.data).position; };
  const close = () => { source?.close(); source = null; };
  const connect = () => {
    if (source || document.hidden) return;
    source = new EventSource("/events?after=" + encodeURIComponent(document.body.dataset.position));
    source.addEventListener("hello", (event) => {
      hear(event);
      // What the tower says about itself is in no log: after an absence all of it may be different.
      if (document.documentElement.dataset.state === "lost") ask();
      else say("live", "Live.");
    });
    source.addEventListener("changed", (event) => { hear(event); ask(); });
    source.addEventListener("beat", (event) => { hear(event); ask(); });
    source.addEventListener("error", () => {
      ask(); // the drawing finds out whether the tower is gone, the session over, or only the stream refused
      if (source.readyState !== EventSource.CLOSED) return;
      close();
      setTimeout(connect, AGAIN);
    });
  };
  // A page that nobody sees holds no stream: a browser has six connections to a host, and the tower eight streams.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return close();
    connect();
    ask();
  });
  connect();
})();
