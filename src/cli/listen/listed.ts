/**
 * `hark listen --list-consumers`: which consumers would run, and by which settings.
 *
 * @module
 */

import { withoutSecrets } from "../../database/url.ts";
import { formatDuration } from "../../duration.ts";
import type { Answer } from "../args/command.ts";
import { surroundings } from "../process/surroundings.ts";
import { blocks, type Cell, tableOf } from "../print/table.ts";
import type { Found } from "./modules.ts";
import { type Setting, type Settings, settingsOfConsumer } from "./settings.ts";

/** What was given besides the consumers. */
interface GivenSettings {
  readonly settings: Settings;
  readonly databaseUrl?: string | undefined;
}

/** Consumers and settings. */
export function list(
  found: readonly Found[],
  { settings, databaseUrl }: GivenSettings,
  url: string | undefined,
): Answer {
  const ofAll = { databaseUrl: databaseSetting(databaseUrl, url), ...ofProcess(settings) };
  const consumers = found.map(({ id, channels, module, consumer }) => ({
    id,
    channels,
    module,
    settings: settingsOfConsumer(settings, consumer),
  }));
  const rows = [
    ...rowsOf("", ofAll),
    ...consumers.flatMap(({ id, settings }) => rowsOf(id, settings)),
  ];
  const text = blocks(
    tableOf(
      consumers,
      "consumer, channels, module",
      (one) => [one.id, one.channels.join(", "), one.module],
    ),
    tableOf(rows, "setting, consumer, value, from", (row) => row),
  );
  return { json: { settings: withNull(ofAll), consumers }, text };
}

/** The settings that are not about single consumers. */
function ofProcess(settings: Settings) {
  const { pollInterval: _, pageSize: __, idle: ___, idleAfter: ____, ...others } = settings;
  return others;
}

/** The database, without its password. */
function databaseSetting(flag: string | undefined, url: string | undefined): Setting {
  if (url === undefined) return { value: undefined, from: "default" };
  const value = withoutSecrets(url);
  if (flag !== undefined) return { value, from: "flag", name: "--database-url" };
  const name = surroundings().variable("DATABASE_URL") ? "DATABASE_URL" : "PGHOST, PGDATABASE …";
  return { value, from: "environment", name };
}

/** As JSON has it, where a value that is not set is null. */
function withNull(settings: Readonly<Record<string, Setting>>): Record<string, Setting> {
  return Object.fromEntries(
    Object.entries(settings).map(([name, one]) => [name, { ...one, value: one.value ?? null }]),
  );
}

/** A row for each setting that is not the default. */
function rowsOf(consumer: string, settings: Readonly<Record<string, Setting>>): Cell[][] {
  return Object.entries(settings).filter(([, { from }]) => from !== "default").map((
    [setting, { value, from, name }],
  ) => [setting, consumer, textOf(setting, value), name ?? from]);
}

function textOf(setting: string, value: unknown): string {
  if (Array.isArray(value)) return value.join(", ");
  const isDuration = ["pollInterval", "idleAfter", "maxReconnectDelay"].includes(setting);
  return isDuration && typeof value === "number" ? formatDuration(value) : String(value);
}
