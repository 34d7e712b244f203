/**
 * What spans have in common.
 *
 * @module
 */

import { type Span, SpanStatusCode } from "@opentelemetry/api";
import { errorType } from "../observe/error_type.ts";
import type { ObservedRun } from "../observe/run.ts";
import type { About } from "../observe/seam.ts";
import { databaseOf } from "./attributes.ts";
import type { Settings } from "./options.ts";

const known = new WeakMap<ObservedRun, About>();

/** The attributes of what a run does, which are made once. */
export function ofRun(run: ObservedRun): About {
  let about = known.get(run);
  if (about === undefined) {
    about = {
      ...databaseOf(run.db),
      "messaging.consumer.group.name": run.consumer,
      "messaging.client.id": run.worker,
    };
    known.set(run, about);
  }
  return about;
}

/** Marks a span as failed. An error's text may hold data, so it is told only if that is asked for. */
export function failed(span: Span, error: unknown, { errors }: Settings): void {
  span.setAttribute("error.type", errorType(error));
  if (!errors) span.setStatus({ code: SpanStatusCode.ERROR });
  else {
    const message = error instanceof Error ? error.message : String(error);
    span.setStatus({ code: SpanStatusCode.ERROR, message });
    span.recordException(error instanceof Error ? error : message);
  }
}
