/**
 * The server, and the record of acts.
 *
 * @module
 */

import { given } from "../../given.ts";
import { acts } from "../../operate/acts.ts";
import { deletions } from "../../operate/delete.ts";
import { logChannels } from "../../operate/log_channels.ts";
import { htm, type Html } from "../html.ts";
import { toChannel, toConsumer } from "../links.ts";
import {
  badge,
  bytes,
  command,
  count,
  durationText,
  empty,
  facts,
  link,
  name,
  numberText,
  seconds,
  section,
  table,
  value,
  when,
} from "../parts.ts";
import { act, button, type Screen, type View } from "../view.ts";

/** The server: sizes, retention, and what holds back cleaning. */
export const server: Screen = {
  title: () => "Server",
  under: "/server",
  async regions(view) {
    const { status, facts: seen } = view.look;
    const channels = await view.reading((tx) => logChannels(tx, { maxScanned: 20_000 }));
    const oldest = seen.sessions[0];
    return [
      {
        id: "facts",
        body: facts([
          ["PostgreSQL", `${Math.floor(seen.version / 10_000)}.${seen.version % 10_000}`],
          ["Schema", status.schemaVersion],
          ["Role", name(seen.role)],
          [
            "Log",
            htm`${bytes(status.log.bytes)} <small>${status.log.exact ? "" : "about "}${
              numberText(status.log.rows)
            } notifications</small>`,
          ],
          ["Overflow segment", bytes(seen.overflow)],
          ["Oldest notification", when(seen.oldest, "none")],
          ["Connections", `${seen.connections} of ${seen.mostConnections}`],
          ["NOTIFY queue", `${(seen.queue * 100).toFixed(1)} %`],
          [
            "Oldest transaction",
            oldest === undefined
              ? "none"
              : htm`${
                seconds(oldest.age / 1000)
              } <small>session ${oldest.id}, ${oldest.owner}, ${oldest.state}</small>`,
          ],
          ["Prepared transactions", numberText(seen.prepared.length)],
          ["Transaction numbers", `the oldest is ${numberText(seen.frozen)} old`],
          [
            "Clock",
            Math.abs(seen.skew) < 1000
              ? "as this machine's"
              : `${durationText(Math.abs(seen.skew))} off`,
          ],
        ]),
      },
      { id: "retention", body: section("Retention", retention(view)) },
      {
        id: "holding",
        body: section(
          "Holds back cleaning",
          status.warnings.length === 0
            ? empty("Nothing older than a week is kept for a consumer.")
            : table(
              "Consumers that hold back cleaning",
              ["Consumer", "Oldest kept", "Why"],
              status.warnings.map((one) => ({
                key: one.consumer,
                cells: [
                  toConsumer(view, one.consumer),
                  when(one.oldest),
                  one.reasons.join(", "),
                ],
              })),
            ),
        ),
      },
      {
        id: "slots",
        body: seen.slots.length === 0 ? htm`` : section(
          "Replication slots",
          table(
            "Replication slots",
            ["Slot", "In use", "#WAL kept", "#Transactions back"],
            seen.slots.map((one) => ({
              key: one.name,
              cells: [
                name(one.name),
                one.active ? "yes" : badge("warn", "no"),
                bytes(one.bytes),
                numberText(one.horizon),
              ],
            })),
          ),
        ),
      },
      {
        id: "channels",
        body: section(
          "Channels",
          channels.channels.length === 0 ? empty("The log is empty.") : table(
            "Channels",
            ["Channel", "#Notifications", "#Size", "Last", "#Consumers"],
            channels.channels.slice(0, 100).map((one) => ({
              key: one.channel,
              cells: [
                toChannel(view, one.channel),
                count(one.notifications),
                bytes(one.bytes),
                when(one.lastAt),
                one.consumers === 0 ? badge("warn", "none") : one.consumers,
              ],
            })),
          ),
          htm`<small>of the newest ${numberText(channels.looked)} notifications</small>`,
        ),
      },
    ];
  },
};

function retention(view: View): Html {
  const settings = view.look.status.retention;
  return htm`${
    settings.length === 0 ? empty("Nothing is ever removed from the log by itself.") : table(
      "Retention",
      ["Channel", "Kept for", "Applied", "#Removed", ""],
      settings.map((one) => ({
        key: one.channel ?? "",
        cells: [
          one.channel === null ? "all others" : htm`<bdi>${one.channel}</bdi>`,
          one.keep === null ? "ever" : durationText(one.keep),
          when(one.appliedAt),
          count(one.removed),
          act(
            view,
            "retention",
            { channel: one.channel ?? undefined },
            button("Unset", "danger"),
          ),
        ],
      })),
    )
  }${
    act(
      view,
      "retention",
      {},
      htm`<label>Channel (or all)<input name="channel"></label><label>Keep for<input name="keep" required placeholder="30d"></label>${
        button("Set")
      }`,
      "line",
    )
  }`;
}

/** The record of acts. */
export const audit: Screen = {
  title: () => "Audit",
  under: "/audit",
  async regions(view) {
    const before = Number(view.query.get("before")) || undefined;
    const [done, deleted] = await view.reading(async (tx) =>
      [
        await acts(tx, given({ limit: 100, before })),
        await deletions(tx, { limit: 20 }),
      ] as const
    );
    return [
      {
        id: "acts",
        body: section(
          "Acts",
          done.length === 0 ? empty("No operator has acted yet.") : htm`${
            table(
              "Acts",
              ["When", "Who", "Act", "About", "#Notifications", "Detail", "Role"],
              done.map((one) => ({
                key: one.act,
                cells: [
                  when(one.at),
                  one.person === null ? htm`<span class="dim">not told</span>` : name(one.person),
                  badge(one.what === "discard" || one.what === "remove" ? "bad" : "calm", one.what),
                  value(one.about),
                  one.affected === null ? "-" : count(one.affected),
                  one.detail,
                  one.role === one.login
                    ? name(one.role)
                    : htm`${name(one.role)} <small>${one.login}</small>`,
                ],
              })),
            )
          }${
            done.length < 100
              ? ""
              : htm`<p>${
                link(view.to("/audit"), { before: done.at(-1)!.act }, "Older", "button")
              }</p>`
          }`,
          command("hark acts"),
        ),
      },
      {
        id: "deletions",
        body: deleted.length === 0 ? htm`` : section(
          "Deletions from the log",
          table(
            "Deletions",
            ["When", "Role", "Chosen by", "#Log", "#Waiting", "#Dead", "#Delayed", "Reason"],
            deleted.map((one) => ({
              key: one.deletion,
              cells: [
                when(one.begunAt),
                name(one.role),
                one.choice.join(", "),
                one.log,
                one.waiting,
                one.dead,
                one.delayed,
                one.reason,
              ],
            })),
          ),
        ),
      },
    ];
  },
};
