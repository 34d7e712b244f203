/**
 * Watched tables, and what comes later.
 *
 * @module
 */

import { delayedNotifications } from "../../operate/delayed.ts";
import { schedules } from "../../operate/schedules.ts";
import { htm } from "../html.ts";
import { toChannel, toNotification } from "../links.ts";
import { badge, command, empty, name, numberText, section, table, value, when } from "../parts.ts";
import { redacted } from "../payload.ts";
import { act, button, type Screen } from "../view.ts";

/** Watched tables. */
export const watches: Screen = {
  title: () => "Watches",
  under: "/watches",
  regions(view) {
    const all = view.look.status.watches;
    return [{
      id: "watches",
      body: all.length === 0
        ? empty(htm`No table is watched. ${command("hark watch add public.customers")}`)
        : table(
          "Watches",
          ["Table", "Channel", "Publishes", "Cost", "Snapshot", "Drift", ""],
          all.map((one) => ({
            key: `${one.table}/${one.name}`,
            tone: one.drift.length > 0 ? "warn" : undefined,
            cells: [
              htm`${name(one.table)}${one.name === "watch" ? "" : htm`<small>${one.name}</small>`}`,
              toChannel(view, one.channel),
              `${one.operations.join(", ").toLowerCase()}: ${one.payload}`,
              one.level === "statement"
                ? "one call a statement"
                : htm`one call a row <small>${one.reason ?? ""}</small>`,
              one.snapshotDoneAt === null
                ? one.snapshotCount === 0 ? "none" : `${numberText(one.snapshotCount)} rows so far`
                : htm`${numberText(one.snapshotCount)} rows <small>${
                  when(one.snapshotDoneAt)
                }</small>`,
              one.drift.length === 0
                ? badge("good", "as defined")
                : htm`${badge("warn", "drifted")}<ul>${
                  one.drift.map((line) => htm`<li>${line}</li>`)
                }</ul>`,
              one.exists && one.drift.length > 0
                ? act(view, "rewatch", { table: one.table, name: one.name }, button("Repair"))
                : "",
            ],
          })),
        ),
    }];
  },
};

/** Delayed notifications and schedules. */
export const later: Screen = {
  title: () => "Later",
  under: "/later",
  async regions(view) {
    const [delayed, planned] = await view.reading(async (tx) =>
      [
        await delayedNotifications(tx, { limit: 100 }),
        await schedules(tx),
      ] as const
    );
    return [
      {
        id: "delayed",
        body: section(
          "Delayed",
          delayed.length === 0 ? empty("Nothing is delayed.") : table(
            "Delayed notifications",
            ["Number", "Due", "Channel", "Key", "By", ""],
            delayed.map((one) => ({
              key: one.number,
              cells: [
                one.number,
                when(one.deliverAt),
                htm`<bdi>${one.channel}</bdi>`,
                value(redacted(view, { ...one, id: one.number }).key),
                name(one.owner),
                act(view, "cancel", { number: one.number }, button("Cancel", "danger")),
              ],
            })),
          ),
          delayed.length < 100 ? "" : htm`<small>the next 100</small>`,
        ),
      },
      {
        id: "schedules",
        body: section(
          "Schedules",
          planned.length === 0 ? empty(htm`Nothing is scheduled.`) : table(
            "Schedules",
            ["Schedule", "Pattern", "Next", "Last", "Channel", "Missed times", "By", ""],
            planned.map((one) => ({
              key: one.name,
              tone: one.problem === null ? undefined : "bad",
              cells: [
                htm`${name(one.name)}${
                  one.problem === null ? "" : htm`<span class="error-text">${one.problem}</span>`
                }`,
                htm`<code>${one.cron}</code> <small>${one.timezone}</small>`,
                when(one.nextAt),
                one.lastId === null
                  ? "never"
                  : htm`${when(one.lastAt)} <small>${toNotification(view, one.lastId)}</small>`,
                htm`<bdi>${one.channel}</bdi>`,
                one.missed === "once" ? "published once" : "skipped",
                name(one.owner),
                act(view, "unschedule", { name: one.name }, button("Remove", "danger")),
              ],
            })),
          ),
        ),
      },
    ];
  },
};
