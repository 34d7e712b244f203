/**
 * COPY from this process, which npm:pg leaves to its callers.
 *
 * @module
 */

import { Buffer } from "node:buffer";
// @ts-types="npm:@types/pg@8.23.1"
import type pg from "pg";

/** What npm:pg's connection has for it (its documented types leave it out). */
interface CopyConnection {
  query(text: string): void;
  sendCopyFromChunk(data: Buffer): void;
  endCopyFrom(): void;
}

/** Runs `copy … from stdin` with the text of all rows. */
export async function copyIn(client: pg.Client, statement: string, text: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // As a query that the client runs in its turn: it calls these.
  client.query({
    submit: (connection: CopyConnection) => connection.query(statement),
    handleCopyInResponse(connection: CopyConnection) {
      connection.sendCopyFromChunk(Buffer.from(text));
      connection.endCopyFrom();
    },
    handleCommandComplete: () => {},
    handleReadyForQuery: () => resolve(),
    handleError: (error: Error) => reject(error),
  } as unknown as pg.Submittable);
  await promise;
}
