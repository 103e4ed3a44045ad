// Which streams the live table shows, and in which order: the filter, the sorting, and how many rows there may be.

// Streams that were heard within the same time count as equally new, or rows of live streams would change places
// with every window.
const AGES_MS = [10_000, 60_000, 600_000];

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** Streams whose id holds `filter`, whatever its case, sorted "newest" or by "name". */
export function arrange(streams, { filter, sort, now }) {
  const wanted = filter.trim().toLowerCase();
  const found = wanted === "" ? streams : streams.filter((stream) => stream.id.toLowerCase().includes(wanted));
  const byName = (a, b) => collator.compare(a.id, b.id) || (a.id < b.id ? -1 : 1);
  if (sort === "name") return [...found].sort(byName);
  const age = (stream) => AGES_MS.filter((limit) => now - stream.heardAt > limit).length;
  return [...found].sort((a, b) => age(a) - age(b) || byName(a, b));
}

/** Make the children of `body` the given rows in this order, and move only those that are elsewhere. */
export function putInOrder(body, rows) {
  const wanted = new Set(rows.map((row) => row.element));
  const focused = document.activeElement;
  for (const child of [...body.children]) if (!wanted.has(child)) child.remove();
  let place = body.firstElementChild;
  for (const { element } of rows) {
    if (element === place) place = place.nextElementSibling;
    else body.insertBefore(element, place);
  }
  // A row that is moved loses the focus that it has.
  if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
}

/** What the line above the table says of the streams. */
export function howMany(shown, found, all) {
  if (found < all) return shown < found ? `${shown} of ${found} that match` : `${found} of ${all} match`;
  return shown < all ? `first ${shown} of ${all} shown` : "";
}
