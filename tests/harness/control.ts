/**
 * The connection by which the harness itself talks to the server.
 *
 * To open a connection costs the server a new process, which is the dearest thing that most tests do.
 * So the harness opens one for each test program and keeps it.
 *
 * @module
 */

import { type Client, connect, type Row } from "./connect.ts";

/** The server that tests use. */
export function serverUrl(): string {
  const url = Deno.env.get("DATABASE_URL");
  if (url) return url;
  throw new Error("DATABASE_URL is not set. Run `deno task test`, which starts a server itself.");
}

/** A connection to the server of DATABASE_URL, opened when it is first used and opened again when it broke. */
class Control {
  #client: Promise<Client> | undefined;
  #isOpen = false;

  /** Whether a statement can be run without a connection being opened for it. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Has it open: one that opens between two tests starts timers that Deno finds in neither. */
  async ready(): Promise<Client> {
    return await (this.#client ??= this.#open());
  }

  /** Runs one statement. */
  async sql(text: string, values?: unknown[]): Promise<Row[]> {
    return (await (await this.ready()).query(text, values)).rows;
  }

  async #open(): Promise<Client> {
    try {
      const client = await connect(serverUrl(), { application_name: "hark harness" });
      client.once("end", () => {
        this.#client = undefined;
        this.#isOpen = false;
      });
      this.#isOpen = true;
      return client;
    } catch (error) {
      this.#client = undefined;
      throw error;
    }
  }
}

/** For what a test waits for. */
export const control: Control = new Control();

/** For what no test waits for. */
export const background: Control = new Control();
