// The alerts on top of the page. One that is new is read aloud; its figures may change without that.

import { byId, make, setText } from "./dom.js";

/** Show alerts; `onDismiss(alert)` hears which one was put away. Gives show(alerts). */
export function alertBar(onDismiss) {
  const bar = byId("alerts");
  const items = new Map();
  const dismissed = new Map();

  function show(alerts) {
    const now = new Map(alerts.map((alert) => [alert.key, alert]));
    // What has passed and comes again is news.
    for (const key of dismissed.keys()) if (!now.has(key)) dismissed.delete(key);
    for (const [key, { about }] of now) if (about.every((one) => dismissed.get(key)?.has(one))) now.delete(key);
    for (const [key, item] of items) {
      if (now.has(key)) continue;
      item.element.remove();
      items.delete(key);
    }
    for (const [key, alert] of now) {
      if (!items.has(key)) {
        items.set(key, alertItem(() => dismiss(key)));
        bar.append(items.get(key).element);
      }
      items.get(key).show(alert);
    }
    bar.hidden = items.size === 0;
  }

  function dismiss(key) {
    const { element, alert } = items.get(key);
    dismissed.set(key, new Set(alert().about));
    const next = element.nextElementSibling ?? element.previousElementSibling;
    element.remove();
    items.delete(key);
    bar.hidden = items.size === 0;
    (next?.querySelector("button") ?? byId("tabs").querySelector("[tabindex='0']")).focus();
    onDismiss(alert());
  }

  return show;
}

function alertItem(onDismiss) {
  const text = make("strong");
  const links = make("span", { class: "alert-links" });
  const advice = make("span", { class: "advice" });
  const close = make("button", { type: "button", class: "button quiet", onclick: onDismiss }, "Dismiss");
  const element = make("div", { class: "alert" }, make("p", {}, text, " ", links, " ", advice), close);
  let shown = null;
  let linked = "";
  return {
    element,
    alert: () => shown,
    show(alert) {
      shown = alert;
      element.dataset.key = alert.key;
      element.dataset.level = alert.level;
      setText(text, alert.links.length ? `${alert.text}:` : alert.text);
      setText(advice, alert.advice);
      close.setAttribute("aria-label", `Dismiss: ${alert.text}`);
      const key = alert.links.map((link) => link.hash).join("\n");
      if (key === linked) return;
      linked = key;
      links.replaceChildren(
        ...alert.links.flatMap((link, place) => [
          place ? ", " : "",
          make("a", { href: link.hash }, make("bdi", {}, link.text)),
        ]),
        alert.links.length ? "." : "",
      );
    },
  };
}
