/**
 * Makes an element like new HTML, and leaves alone what is the same: the focus, a selection, a ticked
 * box and an open fold stay.
 *
 * @module
 */

/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/** Makes the children of an element like those of a piece of HTML from the server. */
export function morph(element: Element, text: string): void {
  const parsed = new DOMParser().parseFromString(`<body>${text}`, "text/html");
  children(element, parsed.body);
}

/** What tells an element from its neighbours. */
function keyOf(node: Node | null): string | undefined {
  if (!(node instanceof Element)) return undefined;
  // A form's property `id` would be its field of that name.
  return node.getAttribute("id") ?? node.getAttribute("data-key") ?? undefined;
}

function alike(a: Node, b: Node): boolean {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function children(from: Node, to: Node): void {
  const keyed = new Map<string, Element>();
  for (const child of from.childNodes) {
    const key = keyOf(child);
    if (key !== undefined) keyed.set(key, child as Element);
  }
  let at = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const key = keyOf(wanted);
    const known = key === undefined ? undefined : keyed.get(key);
    if (known !== undefined && alike(known, wanted)) {
      if (known !== at) from.insertBefore(known, at);
      else at = at.nextSibling;
      same(known, wanted);
    } else if (at !== null && keyOf(at) === undefined && alike(at, wanted)) {
      const next = at.nextSibling;
      same(at, wanted);
      at = next;
    } else {
      from.insertBefore(document.importNode(wanted, true), at);
    }
  }
  while (at !== null) {
    const next = at.nextSibling;
    from.removeChild(at);
    at = next;
  }
}

function same(from: Node, to: Node): void {
  if (!(from instanceof Element) || !(to instanceof Element)) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  // What a person has opened stays open.
  const kept = from instanceof HTMLDetailsElement ? ["open"] : [];
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !kept.includes(name)) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  // The page writes these itself, from the attribute.
  if (from instanceof HTMLTimeElement) return;
  if (from instanceof HTMLInputElement || from instanceof HTMLTextAreaElement) return;
  children(from, to);
}
