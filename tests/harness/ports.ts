/**
 * Ports for servers that are stopped and started again.
 *
 * @module
 */

/** Below those of outgoing connections, any of which could take a port while its server is away. */
const range = { first: 10_000, count: 5_000 };

/** A free port of 127.0.0.1 that no outgoing connection takes. */
export function quietPort(): number {
  for (let attempt = 1;; attempt++) {
    const port = range.first + Math.floor(Math.random() * range.count);
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (attempt === 50) throw error;
    }
  }
}
