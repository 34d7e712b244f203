/**
 * What a chart says where the pointer is.
 *
 * @module
 */

/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/** Shows time and value beside the pointer. */
export function readout(): void {
  const label = document.createElement("div");
  label.className = "readout";
  label.hidden = true;
  label.setAttribute("aria-hidden", "true");
  document.body.append(label);
  document.addEventListener("pointermove", (event) => {
    const svg = (event.target as Element).closest?.("svg[data-points]");
    label.hidden = svg === null || svg === undefined;
    if (!svg) return;
    const points: [number, string][] = JSON.parse(svg.getAttribute("data-points") ?? "[]");
    const { left, width, top } = svg.getBoundingClientRect();
    const [first, last] = [points[0]![0], points[points.length - 1]![0]];
    const at = first + (last - first) * (event.clientX - left) / width;
    const near = points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
    label.textContent = `${near[1]} · ${new Date(near[0]).toLocaleTimeString()}`;
    const x = Math.min(event.clientX + 12, innerWidth - label.offsetWidth - 8);
    // The style sheet of the page may set styles of elements; attributes with styles may not.
    label.style.setProperty("left", `${x + scrollX}px`);
    label.style.setProperty("top", `${top + scrollY - 26}px`);
  }, { passive: true });
}
