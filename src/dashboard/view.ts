/**
 * What a screen is given, and what it gives.
 *
 * @module
 */

import type { Database } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { hidden } from "./fields.ts";
import type { History } from "./history.ts";
import { htm, type Html, type Part } from "./html.ts";
import type { Look } from "./look.ts";
import type { Settings, Visitor } from "./options.ts";

/** What a screen is made of, for one visitor and one look. */
export interface View {
  readonly db: Database;
  readonly settings: Settings;
  readonly look: Look;
  readonly history: History;
  readonly visitor: Visitor;
  /** Whether the visitor may act, and the database role too. */
  readonly mayAct: boolean;
  /** For forms. */
  readonly token: string;
  /** The query of the page's address. */
  readonly query: URLSearchParams;
  /** The page's own address, from the root of the dashboard. */
  readonly here: string;
  /** The path of a screen, as the browser sees it. */
  readonly to: (path: string) => string;
  /** Reads what the look does not have. */
  readonly reading: <T>(work: (tx: Queryable) => Promise<T>) => Promise<T>;
}

/** A part of a page that is sent anew when it has changed. */
export interface Region {
  readonly id: string;
  readonly body: Html;
}

/** A page with an address of its own. */
export interface Screen {
  /** The page's title. */
  readonly title: (query: URLSearchParams) => string;
  /** The entry of the navigation that it belongs to. */
  readonly under: string;
  /** What it shows. The stream sends regions that have changed; the others are sent once. */
  readonly regions: (view: View) => Promise<readonly Region[]> | readonly Region[];
  /** Whether the page stays as it is: a form that is filled in. @default {false} */
  readonly still?: boolean;
}

/** A form that acts. `fields` are sent as they are; `body` has what a visitor fills in, and the button. */
export function act(
  view: View,
  name: string,
  fields: Readonly<Record<string, string | number | undefined>>,
  body: Part,
  kind = "inline",
): Html {
  if (!view.mayAct) return htm``;
  return htm`<form method="post" action="${view.to("/act")}" class="${kind}">${
    hidden({ act: name, token: view.token, back: view.here, ...fields })
  }${body}</form>`;
}

/** A button that sends its form. */
export function button(words: string, kind = ""): Html {
  return htm`<button class="${kind}">${words}</button>`;
}
