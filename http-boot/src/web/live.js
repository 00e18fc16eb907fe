// Puts what the server sends in the place of what the page shows. Without this, the page is as of its loading.
"use strict";
(() => {
  const place = document.querySelector("[data-live]");
  const status = document.getElementById("live");
  if (!place || !status || !window.EventSource) return;
  const LINES = 500;

  const say = (text, className) => {
    status.textContent = text;
    status.className = className;
  };

  // Of a row, only the cells that differ: a link that somebody is about to click stays where it is.
  const replace = (old, fresh) => {
    if (old.tagName === "TR" && old.cells.length === fresh.cells.length) {
      [...old.cells].forEach((cell, at) => {
        if (cell.outerHTML !== fresh.cells[at].outerHTML) cell.replaceWith(fresh.cells[at].cloneNode(true));
      });
      return;
    }
    const scrolled = old.scrollTop;
    old.replaceWith(fresh);
    fresh.scrollTop = scrolled;
  };

  const source = new EventSource(place.dataset.live);
  source.onopen = () => say("live", "on");
  source.onerror = () => say("connection lost, trying again", "off");
  source.onmessage = (message) => {
    const change = JSON.parse(message.data);
    const holder = document.createElement("template");
    holder.innerHTML = change.html;
    const fresh = holder.content.firstElementChild;
    const old = change.id && document.getElementById(change.id);
    if (old) {
      replace(old, fresh);
    } else if (change.into) {
      const list = document.getElementById(change.into);
      list?.prepend(fresh);
      while (list && list.tagName === "OL" && list.childElementCount > LINES) list.lastElementChild.remove();
    }
  };
})();
