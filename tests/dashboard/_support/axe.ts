/**
 * What axe finds in a page.
 *
 * @module
 */

import axe from "npm:axe-core@4.14.1";
import type { Page } from "./page.ts";

/** Each fault, with the first element that has it. */
export async function faultsOf(page: Page): Promise<string[]> {
  if (!await page.evaluate("'axe' in window")) await page.evaluate(`${axe.source}; 0`);
  const found = await page.evaluate(`axe.run().then(({ violations }) => violations.map((one) =>
    one.id + ": " + one.help + ": " + one.nodes[0].html.slice(0, 200) + " " + one.nodes[0].failureSummary))`);
  return found as string[];
}
