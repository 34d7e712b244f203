/**
 * Another party's server, which does what a test says.
 *
 * @module
 */

import type { TestContext } from "../../harness/mod.ts";

/** A request that was received. */
export interface Received {
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** A server on a port of its own. */
export class Partner implements AsyncDisposable {
  readonly received: Received[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #over = new AbortController();
  readonly origin: string;

  /** @param answer Gives the answer to a request. */
  constructor(
    answer: (received: Received, over: AbortSignal) => Response | Promise<Response>,
    tls?: { readonly cert: string; readonly key: string },
  ) {
    this.#server = Deno.serve({
      hostname: "127.0.0.1",
      port: 0,
      signal: this.#over.signal,
      onListen() {},
      onError: () => new Response(null, { status: 500 }),
      ...tls,
    }, async (request) => {
      const received = {
        path: new URL(request.url).pathname,
        headers: Object.fromEntries(request.headers),
        body: await request.text(),
      };
      this.received.push(received);
      return await answer(received, this.#over.signal);
    });
    const scheme = tls === undefined ? "http" : "https";
    this.origin = `${scheme}://localhost:${this.#server.addr.port}`;
  }

  /** Ends the server, with all that it has not answered. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#server.finished;
  }
}

/** Starts one for a test. */
export function partner(
  context: Pick<TestContext, "use">,
  ...given: ConstructorParameters<typeof Partner>
): Partner {
  return context.use(new Partner(...given));
}

/** A certificate for localhost that signs itself, and its key. Both are for tests only. */
export const certificate = {
  cert: `-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUKOHOYfXEL7LpMLm38dAdFjQUFw0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyOTE1NTEyN1oYDzIxMjYxMTA1
MTU1MTI3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQbghjcwGdSVO6f+vfOwgpZE83PdXXMkoqgcnz7S/lOVb4bZOxLuB6/
1t9Yn8yQsfiSWybihFxuBpF1xX44JinSo2kwZzAdBgNVHQ4EFgQUVB7u5YNNdE+I
zA2LCurG9GmCZqswHwYDVR0jBBgwFoAUVB7u5YNNdE+IzA2LCurG9GmCZqswFAYD
VR0RBA0wC4IJbG9jYWxob3N0MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID
SAAwRQIgCRYZMtVC5eDypq1Ht5PpBjt3y5nOeQLPZfC/YX74GcsCIQDOIK/qpxmB
Vh3ql7GK0W3KWTW7dwIGBhmAlQPG/Bi8DQ==
-----END CERTIFICATE-----
`,
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg1vE4hYkjnUkx7cpm
cUNCwFkJgJ70KeAWHuW+fxsVqHqhRANCAAQbghjcwGdSVO6f+vfOwgpZE83PdXXM
koqgcnz7S/lOVb4bZOxLuB6/1t9Yn8yQsfiSWybihFxuBpF1xX44JinS
-----END PRIVATE KEY-----
`,
};
