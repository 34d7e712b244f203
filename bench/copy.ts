/**
 * COPY from this process, which npm:pg leaves to its callers.
 *
 * @module
 */

import { Buffer } from "node:buffer";
// @ts-types="npm:@types/pg@8.23.1"
import type pg from "pg";

/** The methods of npm:pg's connection for COPY, which its documented types leave out. */
interface CopyConnection {
  query(text: string): void;
  sendCopyFromChunk(data: Buffer): void;
  endCopyFrom(): void;
}

/** Runs `copy … from stdin` with the text of all rows. */
export async function copyIn(client: pg.Client, statement: string, text: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // Submitted as a query that the client runs in its turn. The client calls these methods.
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
