/**
 * A browser that opens screens: when it paints them, and what an open one holds in memory.
 *
 * @module
 */

import { Chromium, chromiumPath } from "../../tests/dashboard/_support/chromium.ts";
import { Page } from "../../tests/dashboard/_support/page.ts";
import { say } from "../flags.ts";

/** A running browser. */
export class Browser implements AsyncDisposable {
  readonly #chromium: Chromium;

  private constructor(chromium: Chromium) {
    this.#chromium = chromium;
  }

  /** Starts one; undefined on a machine without. */
  static async start(): Promise<Browser | undefined> {
    if (chromiumPath !== undefined) return new Browser(await Chromium.start());
    say("there is no Chromium: nothing is painted");
    return undefined;
  }

  /** Opens an address in a page of its own. */
  async open(url: string): Promise<Page> {
    const page = await Page.open(this.#chromium);
    await page.show({ width: 1440, dark: false });
    await page.goto(url);
    return page;
  }

  /** From the request to the first paint of text, in ms. The page is closed again. */
  async firstPaint(url: string): Promise<number> {
    await using page = await this.open(url);
    return await page.firstPaint();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chromium[Symbol.asyncDispose]();
  }
}
