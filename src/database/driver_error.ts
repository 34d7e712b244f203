/**
 * Where drivers, query builders and ORMs keep what the server said.
 *
 * @module
 */

/** An error that the server reported. */
export interface ServerError {
  /** The SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
  readonly code: string;
  /** The server's message; undefined if the driver keeps none. */
  readonly message: string | undefined;
  readonly hint: string | undefined;
  readonly constraint: string | undefined;
}

/**
 * The properties that hold another error: `cause` of JavaScript, Drizzle and Kysely, `errors` of an
 * AggregateError, `fields` of `@db/postgres`, `driverError` of TypeORM, `original` and `parent` of
 * Sequelize, `nativeError` of Objection, `sourceError` of Neon, `meta` and `driverAdapterError` of
 * Prisma.
 */
const places = [
  "cause",
  "errors",
  "fields",
  "driverError",
  "nativeError",
  "originalError",
  "original",
  "parent",
  "sourceError",
  "meta",
  "driverAdapterError",
] as const;

/** `errno` is Bun's, `originalCode` Prisma's. */
const codes = ["code", "sqlState", "sqlstate", "originalCode", "errno"] as const;

/** Deep enough for every wrapper that is known, and an end to errors that hold themselves. */
const DEEPEST = 10;

type Fields = Readonly<Record<string, unknown>>;

/** The errors that an error holds, itself first, then what it holds, from the outside in. */
function* within(error: unknown, depth = 0): Generator<Fields> {
  if (error === null || typeof error !== "object" || depth > DEEPEST) return;
  yield error as Fields;
  for (const place of places) {
    const held = read(error as Fields, place);
    for (const one of Array.isArray(held) ? held.slice(0, DEEPEST) : [held]) {
      yield* within(one, depth + 1);
    }
  }
}

/** A property of an error, which may be a proxy or have getters that throw. */
function read(error: Fields, name: string): unknown {
  try {
    return error[name];
  } catch {
    return undefined;
  }
}

function text(error: Fields, ...names: string[]): string | undefined {
  for (const name of names) {
    const value = read(error, name);
    if (typeof value === "string" && value !== "") return value;
  }
  return undefined;
}

/**
 * The SQLSTATE of one error. Codes of the operating system (`EPIPE`) and of Prisma (`P2002`) look
 * alike, but have no digit or none that PostgreSQL uses.
 */
function stateOf(error: Fields): string | undefined {
  const isServers = text(error, "severity") !== undefined;
  for (const name of codes) {
    const code = text(error, name);
    if (code === undefined || !/^[0-9A-Z]{5}$/.test(code)) continue;
    if (isServers || /\d/.test(code) && !/^P[1-9]/.test(code)) return code;
  }
  return undefined;
}

/** Knex puts the statement with its values before the server's message. */
function withoutStatement(message: string | undefined): string | undefined {
  return message?.replace(/^select hark\..* - /s, "");
}

/** What the server reported, however deep it is wrapped; undefined if the server reported nothing. */
export function serverError(error: unknown): ServerError | undefined {
  let found: ServerError | undefined;
  for (const one of within(error)) {
    const code = stateOf(one);
    // The innermost of a chain has the server's own message. Of several in a row the first counts.
    if (code === undefined || found !== undefined && found.code !== code) continue;
    found = {
      code,
      message: withoutStatement(text(one, "message", "originalMessage")) ?? found?.message,
      hint: text(one, "hint") ?? found?.hint,
      constraint: text(one, "constraint", "constraint_name") ?? found?.constraint,
    };
  }
  return found;
}

/** The SQLSTATE of an error, however deep it is wrapped. */
export function sqlState(error: unknown): string | undefined {
  return serverError(error)?.code;
}

/** Whether the server has refused a connection because the role, the database or it has enough of them. */
export function isScarce(error: unknown): boolean {
  return sqlState(error) === "53300";
}

/** The codes of an error and of all that it holds, such as `ECONNREFUSED`. */
export function codesIn(error: unknown): string[] {
  return [...within(error)].map((one) => text(one, "code")).filter((code) => code !== undefined);
}

/**
 * An error and those that it wraps, from the outside in, without wrappers whose message holds the
 * statement with its values. The innermost is always there.
 */
export function chainOf(error: unknown): unknown[] {
  const chain = [error];
  while (chain.length <= DEEPEST) {
    const last = chain.at(-1);
    if (last === null || typeof last !== "object") break;
    const held = places.map((place) => read(last as Fields, place))
      .find((one) => one instanceof Error);
    if (held === undefined) break;
    chain.push(held);
  }
  const isStatement = (one: unknown) =>
    one instanceof Error && /^Failed query|\b(select|insert|update|delete)\s/i.test(one.message);
  return chain.filter((one, i) => i === chain.length - 1 || !isStatement(one));
}
