/**
 * Which of the servers of a program did not answer.
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import { translate } from "./translate.ts";
import { withoutSecrets } from "./url.ts";

/** An error with the place of the server before its message. */
export function refusedBy(place: string, error: unknown): HarkError {
  const reason = translate(error);
  const { code, remedy } = reason;
  const what = remedy === undefined ? reason.message : reason.message.replace(`. ${remedy}`, "");
  return new HarkError(code, `${place}: ${withoutSecrets(what)}`, {
    cause: error,
    ...(remedy === undefined ? {} : { remedy }),
  });
}
