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

  const replace = (old, fresh) => {
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const scrolled = old.scrollTop;
    old.replaceWith(fresh);
    fresh.scrollTop = scrolled;
    if (focused) fresh.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
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
