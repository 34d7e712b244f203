/**
 * What tests are written with: a database each, servers to break, lines to cut, processes to kill.
 *
 * @module
 */

export { type AbortListeners, abortListeners } from "./abort_listeners.ts";
export { Child, type Ended, spawn, spawnDeno, type SpawnOptions, Transcript } from "./child.ts";
export { type Client, connect, disconnect, once, type Row, withDatabaseName } from "./connect.ts";
export {
  test,
  type TestBody,
  type TestContext,
  type TestOptions,
  withDatabase,
} from "./database.ts";
export { PROJECT, type Scratch, scratch } from "./files.ts";
export { OwnServer, ownServer, type OwnServerOptions } from "./own_server.ts";
export { quietPort } from "./ports.ts";
export { type CutProxy, cutProxy } from "./proxy.ts";
export { serverUrl } from "./control.ts";
export { dropInUse, install } from "./template.ts";
export { type Deferred, deferred, Inbox, patient, until, type Wait, within } from "./until.ts";
export { waitsFor } from "./waiting.ts";
