/**
 * The errors of an endpoint, and how they are found by its name.
 *
 * @module
 */

/** The part of an error that names its endpoint. No error of another endpoint holds it. */
export function namePart(endpoint: string): string {
  return `endpoint ${JSON.stringify(endpoint)} `; // a quotation mark in it ends no name
}

/** The text of an error of an endpoint. What others say in it cannot be taken for a name. */
export function named(endpoint: string, text: string): string {
  return namePart(endpoint) + text.replaceAll('endpoint "', 'endpoint: "');
}

/** The name of the endpoint that an error is about. Undefined if it is about none. */
export function endpointIn(error: string): string | undefined {
  const [, name] = /^endpoint ("(?:[^"\\]|\\.)*") /.exec(error) ?? [];
  return name === undefined ? undefined : JSON.parse(name);
}
