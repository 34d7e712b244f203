/**
 * What the doctor says of relays, their endpoints, and inboxes.
 *
 * @module
 */

import { durationText, numberText } from "../../show.ts";
import type { Status } from "../status.ts";
import type { Count, Find, Finding } from "./finding.ts";
import { shellWord } from "../../visible.ts";

/** For how long a relay or an inbox may wait before it is told, in ms. */
const shortTrouble = 10_000;
/** For how long an endpoint may fail before it is told, in ms. */
const longFailure = 300_000;

/** The findings about what leaves the database and what comes in. */
export function ofFlows(status: Status, count: Count, find: Find): Finding[] {
  return [...inboxes(status, count, find), ...troubles(status, find), ...endpoints(status, find)];
}

function inboxes({ inboxes }: Status, count: Count, find: Find): Finding[] {
  return inboxes.filter(({ dead }) => dead > 0).map(({ inbox, dead }) =>
    find(
      "warning",
      "inbox",
      `the inbox "${inbox}" could not publish ${count(dead)} of the messages that it took`,
      `See hark inbox ${shellWord(inbox)} --dead.`,
    )
  );
}

/** What relays and inboxes wait for. A moment is none: they try again at once. */
function troubles({ relays, inboxes }: Status, find: Find): Finding[] {
  const all = [
    ...relays.map((one) => ({ ...one, what: "relay", id: one.relay })),
    ...inboxes.map((one) => ({ ...one, what: "inbox", id: one.inbox })),
  ];
  return all.filter(({ troubleSince }) =>
    troubleSince !== null && Date.now() - troubleSince.getTime() > shortTrouble
  ).map(({ what, id, trouble, troubleSince }) =>
    find(
      "warning",
      "trouble",
      `the ${what} "${id}" has waited for ${
        durationText(Date.now() - troubleSince!.getTime())
      }: ${trouble}`,
      "It goes on by itself once that is mended, and nothing is lost until then.",
    )
  );
}

/** Endpoints of webhooks that get nothing. One that has failed for a short time is asked again soon. */
function endpoints({ relays }: Status, find: Find): Finding[] {
  return relays.flatMap(({ relay, failingEndpoints: failing, disabledEndpoints, endpoints }) => {
    const command = `hark relay ${shellWord(relay)}`;
    const disabled = endpoints.find(({ disabled }) => disabled);
    const forLong = endpoints.find(({ disabled, failingSince }) =>
      !disabled && Date.now() - failingSince.getTime() > longFailure
    );
    return [
      ...disabled === undefined ? [] : [find(
        "warning",
        "endpoint",
        `the relay "${relay}" has disabled ${
          disabledEndpoints === 1
            ? "the endpoint"
            : `${numberText(disabledEndpoints)} endpoints, such as`
        } "${disabled.endpoint}": ${disabled.reason}`,
        "What it would get becomes a dead letter. Once it answers again: " +
          `${command} --redrive ${shellWord(disabled.endpoint)}.`,
      )],
      ...forLong === undefined ? [] : [find(
        "warning",
        "endpoint",
        `${
          failing === 1 ? "an endpoint" : `${numberText(failing)} endpoints`
        } of the relay "${relay}" ${failing === 1 ? "fails" : "fail"}, "${forLong.endpoint}" for ${
          durationText(Date.now() - forLong.failingSince.getTime())
        }: ${forLong.reason}`,
        `It is asked again, and nothing is lost before it is disabled. See ${command} --endpoints.`,
      )],
    ];
  });
}
