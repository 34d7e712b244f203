/**
 * What the doctor looks at: the server, the schema, the log and the consumers, as they are.
 *
 * @module
 */

import { connectionsOf } from "../../database/database.ts";
import type { Queryable } from "../../database/queryable.ts";
import { translate } from "../../database/translate.ts";
import { arePooled } from "../../database/pooled.ts";
import type { Session } from "../../database/session.ts";
import type { HarkError } from "../../errors.ts";
import { requireSchema } from "../../schema/migrate.ts";
import { loadSchema } from "../../schema/script.ts";
import { type Status, status } from "../status.ts";
import { type ReplicaFacts, replicaFacts } from "./replica.ts";
import { type Grantee, grantees } from "./rights.ts";

/** How long a notification may take on its way, in milliseconds, before LISTEN counts as deaf. */
const trial = 10_000;

/** A session with a transaction that has been open for long, or a prepared transaction. */
export interface OpenTransaction {
  /** How to find it: its process number, or its name. */
  readonly id: string;
  /** The role, and for a session the program. */
  readonly owner: string;
  /** What the session does: `active`, `idle in transaction`. */
  readonly state: string;
  /** For how long it has been open, in ms. */
  readonly age: number;
}

/** A replication slot. */
export interface Slot {
  readonly name: string;
  readonly active: boolean;
  /** How much WAL the server keeps for it, in bytes. */
  readonly bytes: number;
  /** How many transactions ago the oldest row began that it keeps; 0 if it keeps none. */
  readonly horizon: number;
}

/** Everything that is looked at. */
export interface Facts {
  /** The role that looks. */
  readonly role: string;
  /** The server's version, such as 150007. */
  readonly version: number;
  readonly standby: boolean;
  /** The server's clock before this program's, in ms, beyond what the answer took. */
  readonly skew: number;
  readonly settings: Readonly<Record<string, string>>;
  readonly connections: number;
  /** The connections that may be open: the least of the server's, the database's and the role's limit. */
  readonly mostConnections: number;
  /** The used share of the queue of NOTIFY, 0 to 1. */
  readonly queue: number;
  /** The age of the oldest transaction number of the database. */
  readonly frozen: number;
  /** Whether the role sees what other roles' sessions do. */
  readonly seesSessions: boolean;
  readonly sessions: readonly OpenTransaction[];
  readonly prepared: readonly OpenTransaction[];
  readonly slots: readonly Slot[];
  /** The replica that is read from; undefined if there is none. */
  readonly replica: ReplicaFacts | undefined;
  /** Whether NOTIFY reaches a session that listens, as {@linkcode listens} says it. */
  readonly listens: boolean | HarkError | undefined;
  /** Why the schema cannot be used; undefined if it can. */
  readonly schema: HarkError | undefined;
  /** Whether the schema's functions are those of this program; true if they could not be compared. */
  readonly sameFunctions: boolean;
  readonly grantees: readonly Grantee[];
  /** Tables of the schema for which autovacuum is off. */
  readonly unvacuumed: readonly string[];
  /** The size of the log's overflow segment, in bytes. */
  readonly overflow: number;
  /** When the oldest notification was published; null if there is none. */
  readonly oldest: Date | null;
  /** The status; undefined if it could not be asked for. */
  readonly status: Status | undefined;
  /** How far it counts. */
  readonly maxCount: number;
  /** Why not. */
  readonly statusError: HarkError | undefined;
  /** Workers that are not woken by LISTEN. */
  readonly polling: readonly { readonly consumer: string; readonly worker: string }[];
}

/** What a caller knows already. */
export interface Known extends Pick<Facts, "maxCount" | "listens"> {
  /** The status. */
  readonly status: Status;
}

/** How far the doctor counts. */
const maxCount = 100_000;

/** Looks at everything. Only what the role may not see is left out. */
export async function facts(db: Queryable, known?: Known): Promise<Facts> {
  const server = await serverFacts(db);
  const schema = known === undefined
    ? await requireSchema(db).then(() => undefined, translate)
    : undefined;
  const usable = schema === undefined;
  const [now, statusError] = known !== undefined
    ? [known.status, undefined]
    : usable
    ? await status(db, { maxCount }).then(
      (found) => [found, undefined] as const,
      (e) => [undefined, translate(e)] as const,
    )
    : [undefined, undefined];
  return {
    ...server,
    schema,
    replica: usable ? await replicaFacts(db) : undefined,
    listens: server.standby ? undefined : known === undefined ? await listens(db) : known.listens,
    sameFunctions: usable ? await sameFunctions(db) : true,
    grantees: usable ? await grantees(db) : [],
    ...await tables(db),
    oldest: now === undefined ? null : await oldest(db),
    status: now,
    maxCount: known?.maxCount ?? maxCount,
    statusError,
    polling: now === undefined ? [] : await polling(db, now),
  };
}

const settings = ["autovacuum", "track_counts", "fsync", "full_page_writes", "max_connections"];

async function serverFacts(db: Queryable) {
  const asked = Date.now();
  const { rows: [row] } = await db.query(
    `select (extract(epoch from clock_timestamp()) * 1000)::float8 as now,
      current_user::text as role, current_setting('server_version_num')::integer as version,
      pg_is_in_recovery() as standby, pg_notification_queue_usage()::float8 as queue,
      age(d.datfrozenxid) as frozen,
      pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees,
      d.datconnlimit as database_most, r.rolconnlimit as role_most,
      (select count(*) from pg_stat_activity a where a.backend_type = 'client backend') as here,
      (select count(*) from pg_stat_activity a where a.datid = d.oid and a.backend_type = 'client backend')
        as database_here,
      (select count(*) from pg_stat_activity a where a.usesysid = r.oid) as role_here,
      (select json_object_agg(s.name, s.setting)::text from pg_settings s
        where s.name = any (array['${settings.join("','")}'])) as settings
    from pg_database d, pg_roles r
    where d.datname = current_database() and r.rolname = session_user`,
  );
  const answered = Date.now();
  const now = Number(row.now);
  const found: Record<string, string> = JSON.parse(row.settings);
  const [connections, mostConnections] = ([
    [Number(row.here), Number(found.max_connections)],
    [Number(row.database_here), Number(row.database_most)],
    [Number(row.role_here), Number(row.role_most)],
  ] as const).filter(([, most]) => most > 0).reduce((a, b) => b[0] / b[1] > a[0] / a[1] ? b : a);
  return {
    role: String(row.role),
    version: Number(row.version),
    standby: row.standby === true,
    skew: now > answered ? now - answered : now < asked ? now - asked : 0,
    settings: found,
    connections,
    mostConnections,
    queue: Number(row.queue),
    frozen: Number(row.frozen),
    seesSessions: row.sees === true,
    sessions: await sessions(db),
    prepared: await prepared(db),
    slots: row.standby === true ? [] : await slots(db),
  };
}

async function sessions(db: Queryable): Promise<OpenTransaction[]> {
  const { rows } = await db.query(
    `select a.pid, a.usename::text as role, a.application_name as program, a.state,
      (extract(epoch from clock_timestamp() - a.xact_start) * 1000)::float8 as age
    from pg_stat_activity a
    where a.xact_start is not null and a.pid <> pg_backend_pid()
      and (a.backend_xmin is not null or a.backend_xid is not null or a.state like 'idle in transaction%')
      and a.backend_type = 'client backend' and (a.datname = current_database() or a.backend_xid is not null)
    order by a.xact_start limit 20`,
  );
  return rows.map((row) => ({
    id: String(row.pid),
    owner: row.program === "" ? row.role : `${row.role}, ${row.program}`,
    state: row.state,
    age: Number(row.age),
  }));
}

async function prepared(db: Queryable): Promise<OpenTransaction[]> {
  const { rows } = await db.query(
    `select p.gid, p.owner::text as role, (extract(epoch from clock_timestamp() - p.prepared) * 1000)::float8 as age
    from pg_prepared_xacts p order by p.prepared limit 20`,
  );
  return rows.map((row) => ({
    id: row.gid,
    owner: row.role,
    state: "prepared",
    age: Number(row.age),
  }));
}

async function slots(db: Queryable): Promise<Slot[]> {
  const { rows } = await db.query(
    `select s.slot_name::text as name, s.active,
      coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::float8 as bytes,
      greatest(coalesce(age(s.xmin), 0), coalesce(age(s.catalog_xmin), 0)) as horizon
    from pg_replication_slots s where not s.temporary order by 3 desc limit 20`,
  );
  return rows.map((row) => ({
    name: row.name,
    active: row.active === true,
    bytes: Number(row.bytes),
    horizon: Number(row.horizon),
  }));
}

/**
 * Whether a NOTIFY reaches a session that listens. A transaction pooler accepts LISTEN and forwards
 * nothing. Undefined if LISTEN is turned off, and if `db` opens no sessions. An error if one could
 * not be opened, as then the rest is to be looked at all the more.
 */
export async function listens(db: Queryable): Promise<boolean | HarkError | undefined> {
  const connections = connectionsOf(db);
  if (!connections?.letsListen) return undefined;
  const sessions: Session[] = [];
  try {
    // One by one: if the second cannot be opened, the first is closed.
    sessions.push(await connections.listenSession());
    sessions.push(await connections.session());
    const [listener, sender] = sessions as [Session, Session];
    if (await arePooled(listener, sender)) return false;
    const token = crypto.randomUUID();
    const heard = Promise.withResolvers<void>();
    listener.onNotification((_, payload) => payload === token ? heard.resolve() : undefined);
    await listener.query("listen hark_selftest");
    await sender.query("select pg_notify('hark_selftest', $1::text)", [token]);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<boolean>((resolve) => timer = setTimeout(resolve, trial, false));
    const arrived = await Promise.race([heard.promise.then(() => true), late]);
    clearTimeout(timer);
    await listener.query("unlisten hark_selftest");
    return arrived;
  } catch (error) {
    return translate(error);
  } finally {
    await Promise.all(sessions.map((one) => one.close()));
  }
}

/** Programs of one version may differ while it is developed, and a migration tool may have run half of it. */
async function sameFunctions(db: Queryable): Promise<boolean> {
  const { digest } = await loadSchema();
  const { rows: [row] } = await db.query("select hark.functions_digest() as digest");
  return row.digest === digest;
}

async function tables(db: Queryable): Promise<Pick<Facts, "unvacuumed" | "overflow">> {
  const { rows: [row] } = await db.query(
    `select coalesce((select json_agg(c.relname order by c.relname) from pg_class c
        where c.relnamespace = (select n.oid from pg_namespace n where n.nspname = 'hark')
          and exists (select from unnest(c.reloptions) o (name) where lower(o.name) in ('autovacuum_enabled=false', 'autovacuum_enabled=off'))),
        '[]')::text as unvacuumed,
      coalesce((select pg_relation_size(c.oid) from pg_class c where c.relname = 'log_overflow'
        and c.relnamespace = (select n.oid from pg_namespace n where n.nspname = 'hark')), 0) as overflow`,
  );
  return { unvacuumed: JSON.parse(row.unvacuumed), overflow: Number(row.overflow) };
}

/** Only operators may look at the log itself. */
async function oldest(db: Queryable): Promise<Date | null> {
  const { rows: [right] } = await db.query(
    `select bool_or(has_function_privilege(p.oid, 'execute')) as may from pg_proc p
    where p.pronamespace = 'hark'::regnamespace and p.proname = 'notifications'`,
  );
  if (right.may !== true) return null;
  const { notifications } = await import("../notifications.ts");
  const page = await notifications(db, { newestFirst: false, limit: 1, maxScanned: 1 })
    .catch(() => undefined);
  return page?.notifications[0]?.createdAt ?? null;
}

/** Leaves out workers of less than a minute: a drain, such as one of a request, has no LISTEN by design. */
async function polling(db: Queryable, { consumers }: Status): Promise<Facts["polling"]> {
  const names = consumers.filter(({ workers }) => workers > 0).map(({ consumer }) => consumer);
  if (names.length === 0) return [];
  const { rows } = await db.query(
    `select n.name as consumer, coalesce(w.name, left(w.owner::text, 8)) as worker
    from json_array_elements_text($1::text::json) n (name) cross join lateral hark.workers_of(n.name) w
    where w.lease_until > clock_timestamp() and not w.listening
      and w.joined_at < clock_timestamp() - interval '1 minute'
    order by 1, 2 limit 20`,
    [JSON.stringify(names)],
  );
  return rows.map(({ consumer, worker }) => ({ consumer, worker }));
}
