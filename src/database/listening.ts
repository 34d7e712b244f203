/**
 * The NOTIFY channels that a process listens on.
 *
 * @module
 */

/** The NOTIFY channel that publishers use. The payload is Hark's channel. */
export const wakeChannel = "hark";
/**
 * The NOTIFY channel that tells workers of a change that concerns them. The payload is the
 * consumer, or empty for all consumers.
 */
export const controlChannel = "hark_control";
/**
 * The NOTIFY channel of the self-test. It needs a name of its own, because any text may be a
 * channel of Hark's.
 */
export const testChannel = "hark_selftest";

/** Has a session LISTEN. */
export const listenSql = `listen ${wakeChannel}; listen ${controlChannel}; listen ${testChannel}`;

/** Whether the session that runs it LISTENs, in SQL. */
export const listensSql =
  `array(select pg_catalog.pg_listening_channels()) operator(pg_catalog.@>) '{${wakeChannel},${controlChannel}}'`;
