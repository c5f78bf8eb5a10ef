// The console works without this. It copies commands, opens acts as dialogs, and shows pages anew when something has changed.
"use strict";

(() => {
  const retryAfter = 60000;
  const gatherFor = 1000;
  let stream = null;
  let pending = 0;
  let wasOpen = false;

  // A page of the console as a document: parsed by the browser, its scripts not run.
  const load = (path) => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", path);
    request.responseType = "document";
    request.onload = () => {
      const content = request.response && request.response.getElementById("content");
      const arrived = new URL(request.responseURL).pathname;
      if (request.status === 200 && content && arrived === new URL(path, location.href).pathname) {
        resolve(content);
      } else {
        reject(new Error(`${path} is not there`));
      }
    };
    request.onerror = () => reject(new Error("the guardian does not answer"));
    request.send();
  });

  // Commands are copied to the clipboard.
  const prepare = (root) => {
    if (!navigator.clipboard) return;
    for (const button of root.querySelectorAll("button[data-copy]")) {
      button.hidden = false;
    }
  };

  const copy = async (button) => {
    const code = document.getElementById(button.dataset.copy);
    if (!code) return;
    const before = button.firstChild.textContent;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.firstChild.textContent = "Copied";
    } catch {
      button.firstChild.textContent = "Not allowed";
    }
    setTimeout(() => { button.firstChild.textContent = before; }, 2000);
  };

  // An act is a page of its own; here its content stands in a dialog.
  const open = async (link) => {
    let content;
    try {
      content = await load(link.href);
    } catch {
      location.assign(link.href);
      return;
    }
    const dialog = document.createElement("dialog");
    const heading = content.querySelector("h1");
    if (heading) {
      heading.id = "dialog-heading";
      dialog.setAttribute("aria-labelledby", heading.id);
    }
    dialog.append(...document.adoptNode(content).childNodes);
    dialog.addEventListener("close", () => {
      dialog.remove();
      link.focus();
    });
    document.body.append(dialog);
    dialog.showModal();
  };

  document.addEventListener("click", (event) => {
    const target = event.target.closest("a, button");
    if (!target || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (target.matches("button[data-copy]")) {
      copy(target);
    } else if (target.matches("a[data-dialog]")) {
      event.preventDefault();
      open(target);
    } else if (target.matches("dialog a.cancel")) {
      event.preventDefault();
      target.closest("dialog").close();
    }
  });

  // Nobody loses what they are entering or reading.
  const isBusy = () => document.querySelector("dialog[open]")
    || document.querySelector("main form :focus")
    || !getSelection().isCollapsed;

  const refresh = async () => {
    pending = 0;
    if (isBusy()) {
      later();
      return;
    }
    const here = location.pathname + location.search.replace(/([?&])notice=[^&]*&?/, "$1");
    let content;
    try {
      content = await load(here);
    } catch {
      return;
    }
    if (isBusy()) {
      later();
      return;
    }
    const old = document.getElementById("content");
    const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
    const notice = old.querySelector(".notice");
    old.replaceChildren(...document.adoptNode(content).childNodes);
    if (notice) old.querySelector("h1").after(notice);
    prepare(old);
    if (focused) {
      const again = [...old.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === focused);
      if (again) again.focus({ preventScroll: true });
    }
  };

  // Under load many things change at once: one look serves them all.
  const later = () => {
    if (!pending) pending = setTimeout(refresh, gatherFor);
  };

  // A browser holds six connections to one server, so a hidden page holds none.
  const follow = () => {
    const path = document.body.dataset.events;
    const wanted = path && document.visibilityState === "visible";
    if (wanted && !stream) {
      stream = new EventSource(path);
      stream.addEventListener("change", later);
      // What happened while there was no stream is not told when it is back.
      stream.addEventListener("open", () => {
        if (wasOpen) later();
        wasOpen = true;
      });
      stream.addEventListener("error", () => {
        if (stream && stream.readyState === EventSource.CLOSED) {
          stream = null;
          setTimeout(follow, retryAfter);
        }
      });
    } else if (!wanted && stream) {
      stream.close();
      stream = null;
    }
  };

  document.addEventListener("visibilitychange", () => {
    follow();
    if (document.visibilityState === "visible" && document.body.dataset.events) later();
  });
  addEventListener("pagehide", () => {
    if (stream) stream.close();
    stream = null;
  });
  // A page that the browser kept may be of a session that has ended.
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });

  prepare(document);
  follow();
})();
