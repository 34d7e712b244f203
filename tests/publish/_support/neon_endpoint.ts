/**
 * A stand-in for the endpoint of Neon's HTTP driver. It speaks the driver's JSON on this machine and
 * runs the statements on the real server of the tests. The driver is Neon's own.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { connect, disconnect } from "../../harness/connect.ts";

/** A statement as the driver sends it. */
interface Sent {
  readonly query: string;
  readonly params: unknown[];
}

/** The fields of an error that the endpoint answers with. */
const fields = ["severity", "code", "detail", "hint", "constraint", "schema", "table"] as const;

/** What the driver posts to, until it is disposed of. */
export function neonEndpoint(database: string): AsyncDisposable & { readonly url: string } {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const sent = await request.json() as Sent | { readonly queries: readonly Sent[] };
    const client = await connect(database);
    const run = async ({ query, params }: Sent) => {
      const { command, rowCount, fields, rows } = await client.query({
        text: query,
        values: params,
        rowMode: "array",
        // As the server sends it: the driver reads the types itself.
        types: {
          getTypeParser: () => (value: unknown) => value,
        } as unknown as pg.CustomTypesConfig,
      });
      return {
        command,
        rowCount,
        rows,
        fields: fields.map(({ name, dataTypeID }) => ({ name, dataTypeID })),
      };
    };
    try {
      if (!("queries" in sent)) return Response.json(await run(sent));
      const results = [];
      await client.query("begin");
      for (const one of sent.queries) results.push(await run(one));
      await client.query("commit");
      return Response.json({ results });
    } catch (error) {
      if (!(error instanceof pg.DatabaseError)) throw error;
      const told = Object.fromEntries(fields.map((name) => [name, error[name]]));
      return Response.json({ message: error.message, ...told }, { status: 400 });
    } finally {
      await disconnect(client);
    }
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}/sql`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
