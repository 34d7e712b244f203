/**
 * What is wrong, judged by the facts.
 *
 * @module
 */

import type { HarkError } from "../../errors.ts";
import { durationText, numberText } from "../../show.ts";
import type { Facts } from "./facts.ts";
import { ofConsumers } from "./diagnose_consumers.ts";
import type { Find, Finding, Thresholds } from "./finding.ts";
import { ofReplica } from "./replica.ts";

const find: Find = (level, code, problem, remedy, consumer) => ({
  level,
  code,
  problem,
  remedy,
  ...consumer === undefined ? {} : { consumer },
});

/** All findings, errors first. */
export function diagnose(facts: Facts, thresholds: Thresholds): Finding[] {
  const order = ["error", "warning", "note"];
  return [
    ...ofSchema(facts),
    ...ofServer(facts),
    ...ofTransactions(facts, thresholds),
    ...ofSlots(facts),
    ...ofReplica(facts.replica, find),
    ...ofConsumers(facts, thresholds, find),
  ].sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
}

function when(condition: boolean, found: () => Finding): Finding[] {
  return condition ? [found()] : [];
}

function ofSchema(
  { sameFunctions, schema, statusError, grantees, listens, role }: Facts,
): Finding[] {
  const told = ({ message, remedy = "" }: HarkError) =>
    [remedy === "" ? message : message.replace(`. ${remedy}`, ""), remedy] as const;
  return [
    ...when(schema !== undefined, () => {
      const [problem, remedy] = told(schema!);
      return schema!.code === "NO_PERMISSION"
        ? find("error", "rights", `role "${role}": ${problem}`, remedy)
        : find("error", "schema", problem, remedy || "Run hark init.");
    }),
    ...when(!sameFunctions, () =>
      find(
        "warning",
        "schema",
        "the schema's functions are not those of this program, though the version is the same",
        "Run hark init.",
      )),
    // A role that only publishes may be as it should be.
    ...when(statusError !== undefined, () => {
      const [problem, remedy] = told(statusError!);
      return find("note", "consumers", `consumers could not be looked at: ${problem}`, remedy);
    }),
    ...grantees.map(({ role, kind, missing }) =>
      find(
        "error",
        "rights",
        `role "${role}" may ${kind}, but lacks ${missing.slice(0, 3).join(", ")}` +
          (missing.length > 3 ? ` and ${missing.length - 3} more` : ""),
        `As the schema's owner: select hark.grant_${kind}('${role.replaceAll("'", "''")}').`,
      )
    ),
    ...when(listens === false, () =>
      find(
        "error",
        "pooler",
        "LISTEN receives nothing on this connection: probably a transaction pooler is in between",
        "Connect workers directly to the server, or through a pooler in session mode. Until then they only poll.",
      )),
    ...when(typeof listens === "object", () => {
      const [problem, remedy] = told(listens as HarkError);
      return find("warning", "pooler", `LISTEN could not be tried: ${problem}`, remedy);
    }),
    ...when(
      listens === undefined,
      () =>
        find(
          "note",
          "pooler",
          "whether LISTEN works was not tried",
          "Give what connect() returns. With listen=off in the URL, workers only poll.",
        ),
    ),
  ];
}

/** Transaction numbers end at 2 billion. */
const manyTransactions = 1_200_000_000;
const farClock = 5000;

function ofServer(facts: Facts): Finding[] {
  const { version, standby, skew, settings, connections, mostConnections, queue, frozen } = facts;
  const off = ["autovacuum", "track_counts", "fsync", "full_page_writes"]
    .filter((name) => settings[name] === "off");
  const reasons: Readonly<Record<string, string>> = {
    autovacuum: "tables of Hark grow and get slow",
    track_counts: "autovacuum does not know what to clean",
    fsync: "a crash loses data, and may damage it",
    full_page_writes: "a crash may damage data",
  };
  return [
    ...when(
      version < 140_000,
      () =>
        find(
          "error",
          "version",
          `the server is PostgreSQL ${Math.floor(version / 10_000)}`,
          "Use 14 or later.",
        ),
    ),
    ...when(
      standby,
      () =>
        find(
          "error",
          "standby",
          "this server is a standby, which Hark cannot use",
          "Connect to the primary.",
        ),
    ),
    ...when(Math.abs(skew) > farClock, () =>
      find(
        "warning",
        "clock",
        `the server's clock is ${durationText(Math.abs(skew))} ${
          skew > 0 ? "ahead of" : "behind"
        } this machine's`,
        "Run NTP on both. Ages, times given to commands, and deliverAt are off by as much.",
      )),
    ...off.map((name) =>
      find(
        "warning",
        "settings",
        `${name} is off: ${reasons[name]}`,
        `alter system set ${name} = on, then reload.`,
      )
    ),
    ...facts.unvacuumed.map((table) =>
      find(
        "warning",
        "settings",
        `autovacuum is off for hark.${table}: it grows and gets slow`,
        `alter table hark.${table} reset (autovacuum_enabled).`,
      )
    ),
    ...when(connections >= 0.85 * mostConnections, () =>
      find(
        "warning",
        "connections",
        `${connections} of ${mostConnections} connections are open`,
        "Raise max_connections or the limit of the database or the role, or use smaller pools (poolSize).",
      )),
    ...when(queue > 0.1, () =>
      find(
        "warning",
        "notify-queue",
        `the queue of NOTIFY is ${
          Math.round(queue * 100)
        } % full: once it is full, publishers fail`,
        "End the session that listens and stays in a transaction: see pg_stat_activity.",
      )),
    ...when(frozen > manyTransactions, () =>
      find(
        "warning",
        "wraparound",
        `the database's oldest transaction number is ${
          numberText(frozen)
        } old: at 2 billion the server stops writing`,
        "Run vacuum in this database, and end what holds it back.",
      )),
    ...when(!facts.seesSessions, () =>
      find(
        "note",
        "sessions",
        `role "${facts.role}" does not see what other roles' sessions do`,
        `As a superuser: grant pg_read_all_stats to ${facts.role}.`,
      )),
  ];
}

function ofTransactions({ sessions, prepared }: Facts, { longTransaction }: Thresholds): Finding[] {
  return [
    ...sessions.filter(({ age }) => age > longTransaction).map(({ id, owner, state, age }) =>
      find(
        "warning",
        "long-transaction",
        `session ${id} (${owner}) has a transaction open for ${durationText(age)}, ${state}: ` +
          "no table is cleaned behind it, and reading and waking get slower",
        `End it: select pg_terminate_backend(${id}). Set idle_in_transaction_session_timeout.`,
      )
    ),
    ...prepared.filter(({ age }) => age > longTransaction).map(({ id, owner, age }) =>
      find(
        "warning",
        "prepared",
        `transaction '${id}' (${owner}) was prepared ${durationText(age)} ago and never ended: ` +
          "its locks and its snapshot stay",
        `commit prepared '${id}', or rollback prepared '${id}'.`,
      )
    ),
  ];
}

const muchWal = 1024 ** 3;
const farHorizon = 1_000_000;

function ofSlots({ slots }: Facts): Finding[] {
  return slots
    .filter(({ active, bytes, horizon }) => !active || bytes > muchWal || horizon > farHorizon)
    .map(({ name, active, bytes, horizon }) =>
      find(
        "warning",
        "replication-slot",
        `replication slot "${name}" ${
          active ? "lags" : "is used by no standby or subscriber"
        }: the server keeps ` +
          `${numberText(Math.round(bytes / 1024 ** 2))} MB of WAL for it` +
          (horizon > 0 ? `, and rows removed in the last ${numberText(horizon)} transactions` : ""),
        active
          ? "Find out why its standby or subscriber does not keep up."
          : `Start what uses it, or: select pg_drop_replication_slot('${name}').`,
      )
    );
}
