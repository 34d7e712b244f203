/**
 * A page in the browser, as a person uses it.
 *
 * @module
 */

import { until } from "../../harness/mod.ts";
import type { Chromium } from "./chromium.ts";

/** What a page looks like. */
export interface Look {
  readonly width: number;
  readonly dark: boolean;
}

/** Keys by their names, as the protocol wants them. */
const keys: Readonly<Record<string, readonly [code: number, text: string]>> = {
  Tab: [9, ""],
  Enter: [13, "\r"],
  " ": [32, " "],
  Backspace: [8, ""],
};

/** A page with cookies and storage of its own. */
export class Page implements AsyncDisposable {
  readonly #chromium: Chromium;
  readonly #context: string;
  readonly #session: string;
  readonly #deaf: () => void;
  #loads = 0;
  /** What went wrong in the page: errors of scripts, and what its policy has refused. */
  readonly faults: string[] = [];

  private constructor(chromium: Chromium, context: string, session: string) {
    this.#chromium = chromium;
    this.#context = context;
    this.#session = session;
    this.#deaf = chromium.hear((from, method, params) => {
      if (from !== session) return;
      if (method === "Page.loadEventFired") this.#loads++;
      if (method === "Runtime.exceptionThrown") this.faults.push(params.exceptionDetails.text);
      if (method === "Log.entryAdded" && params.entry.level === "error") {
        this.faults.push(`${params.entry.text} ${params.entry.url ?? ""}`);
      }
    });
  }

  /** Opens one. */
  static async open(chromium: Chromium): Promise<Page> {
    const { browserContextId } = await chromium.send("Target.createBrowserContext");
    const { targetId } = await chromium.send("Target.createTarget", {
      url: "about:blank",
      browserContextId,
    });
    const { sessionId } = await chromium.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(chromium, browserContextId, sessionId);
    for (const part of ["Page", "Runtime", "Log"]) await page.#send(`${part}.enable`);
    return page;
  }

  async #send(method: string, params: object = {}) {
    return await this.#chromium.send(method, params, this.#session);
  }

  /** Sets size and colours. Motion is reduced, so that pictures are alike. */
  async show({ width, dark }: Look): Promise<void> {
    await this.#send("Emulation.setDeviceMetricsOverride", {
      width,
      height: 900,
      deviceScaleFactor: 1,
      mobile: false,
    });
    await this.#send("Emulation.setScrollbarsHidden", { hidden: true });
    await this.#send("Emulation.setEmulatedMedia", {
      features: [
        { name: "prefers-color-scheme", value: dark ? "dark" : "light" },
        { name: "prefers-reduced-motion", value: "reduce" },
      ],
    });
  }

  /** Does something that loads a page, and waits for it. */
  async loading(work: () => Promise<unknown>): Promise<void> {
    const before = this.#loads;
    await work();
    await until(() => this.#loads > before, { deadline: 15_000, what: "the page to load" });
  }

  /** Goes to an address. */
  async goto(url: string): Promise<void> {
    await this.loading(() => this.#send("Page.navigate", { url }));
  }

  /** Freezes the page, as a phone does with one in the background, or lets it go on. */
  async freeze(frozen: boolean): Promise<void> {
    await this.#send("Page.setWebLifecycleState", { state: frozen ? "frozen" : "active" });
  }

  /** Runs an expression in the page, and gives its value. */
  // deno-lint-ignore no-explicit-any -- of the page
  async evaluate(expression: string): Promise<any> {
    const { result, exceptionDetails } = await this.#send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails !== undefined) {
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    }
    return result.value;
  }

  /** From the start of the navigation to the first paint of text or a picture, in ms. */
  async firstPaint(): Promise<number> {
    return await until(
      () => this.evaluate('performance.getEntriesByName("first-contentful-paint")[0]?.startTime'),
      { deadline: 15_000, what: "the browser to paint" },
    );
  }

  /** Its heap after a collection of garbage, in bytes, and its nodes. */
  async memory(): Promise<{ readonly heap: number; readonly nodes: number }> {
    await this.#send("HeapProfiler.collectGarbage");
    const { usedSize } = await this.#send("Runtime.getHeapUsage");
    const { nodes } = await this.#send("Memory.getDOMCounters");
    return { heap: usedSize, nodes };
  }

  /** The text of the whole page, or of one element. */
  async text(selector = "body"): Promise<string> {
    return await this.evaluate(
      `document.querySelector(${JSON.stringify(selector)})?.innerText ?? ""`,
    );
  }

  /** Waits until the page says something. */
  async says(what: string | RegExp, selector = "body"): Promise<void> {
    await until(async () => {
      const text = await this.text(selector);
      return typeof what === "string" ? text.includes(what) : what.test(text);
    }, { deadline: 15_000, what: `the page to say ${what}` });
  }

  /** Clicks on the middle of an element, with the mouse. */
  async click(selector: string): Promise<void> {
    const place = await this.evaluate(`(() => {
      const element = document.querySelector(${JSON.stringify(selector)});
      if (element === null) return null;
      element.scrollIntoView({ block: "center" });
      const { x, y, width, height } = element.getBoundingClientRect();
      return [x + width / 2, y + height / 2];
    })()`);
    if (place === null) throw new Error(`the page has no ${selector}`);
    const [x, y] = place;
    for (const type of ["mouseMoved", "mousePressed", "mouseReleased"]) {
      await this.#send("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
    }
  }

  /** Presses a key. */
  async press(key: string): Promise<void> {
    const [windowsVirtualKeyCode, text] = keys[key] ?? [key.charCodeAt(0), key];
    const event = { key, code: key === " " ? "Space" : key, windowsVirtualKeyCode };
    await this.#send("Input.dispatchKeyEvent", {
      ...event,
      type: "keyDown",
      ...text === "" ? {} : { text },
    });
    await this.#send("Input.dispatchKeyEvent", { ...event, type: "keyUp" });
  }

  /** Types text into what has the focus, in place of what is there. */
  async type(text: string): Promise<void> {
    await this.evaluate("document.activeElement.select?.()");
    await this.#send("Input.insertText", { text });
  }

  /** Goes from element to element with the Tab key until one has the focus. */
  async tabTo(selector: string): Promise<void> {
    for (let n = 0; n < 200; n++) {
      if (await this.evaluate(`document.activeElement?.matches(${JSON.stringify(selector)})`)) {
        return;
      }
      await this.press("Tab");
    }
    throw new Error(`the Tab key does not lead to ${selector}`);
  }

  /** A picture of the whole page. WebP is smaller, and loses a little. */
  async picture(format: "png" | "webp"): Promise<Uint8Array> {
    const { data } = await this.#send("Page.captureScreenshot", {
      format,
      ...format === "webp" ? { quality: 60 } : {},
      captureBeyondViewport: true,
    });
    return Uint8Array.fromBase64(data);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#deaf();
    await this.#chromium.send("Target.disposeBrowserContext", {
      browserContextId: this.#context,
    });
  }
}
