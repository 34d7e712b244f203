/**
 * Reads payloads of a typed channel: of its own version, of older ones, and of unknown ones.
 *
 * @module
 */

import { show } from "../check.ts";
import { type Notification, setPayload } from "../consume/notification.ts";
import { DeadLetter, NewerVersion } from "../consume/retry.ts";
import { jsonText } from "../publish/json.ts";
import { issuesText, type StandardResult } from "../standard_schema.ts";
import { type Definition, versionHeader } from "./kind.ts";

/**
 * Gives what handlers get, and makes it the notification's payload. Returns a promise only if a
 * schema or an upgrade does.
 *
 * @throws {NewerVersion} if this program does not know the version yet.
 * @throws {DeadLetter} if the payload fits no version.
 */
export function decode(definition: Definition, notification: Notification): unknown {
  return next(
    new Reading(definition, notification).decoded(),
    (value) => {
      setPayload(notification, value);
      return value;
    },
  );
}

/**
 * Decodes as {@linkcode decode} does. Gives the payload as JSON text, as a publisher of the newest
 * version gives it: what is stored, or what the upgrade to the newest version has returned.
 */
export function stored(
  definition: Definition,
  notification: Notification,
): string | Promise<string> {
  const reading = new Reading(definition, notification);
  return next(reading.decoded(), (value) => {
    setPayload(notification, value);
    return reading.upgrade === undefined
      ? notification.payloadText
      : jsonText(reading.upgrade.input, "the upgraded payload");
  }) as string | Promise<string>;
}

/** Goes on with a value: at once if it is there, else when it comes. */
export function next(value: unknown, then: (value: unknown) => unknown): unknown {
  return isPromise(value) ? value.then(then) : then(value);
}

function isPromise(value: unknown): value is Promise<unknown> {
  return typeof (value as Promise<unknown> | null | undefined)?.then === "function";
}

/** One notification while it is read. */
class Reading {
  readonly #definition: Definition;
  readonly #what: string;
  readonly #json: unknown;
  readonly #version: unknown;
  /** What the last upgrade has returned. Undefined if there was none. */
  upgrade: { readonly input: unknown } | undefined;

  constructor(definition: Definition, notification: Notification) {
    this.#definition = definition;
    this.#what = `notification ${notification.id} on channel ${show(definition.name)}`;
    this.#json = JSON.parse(notification.payloadText);
    this.#version = notification.headers[versionHeader];
  }

  decoded(): unknown {
    const version = this.#version;
    const newest = this.#definition.versions.length;
    // Anything else was not written by a typed channel, and says nothing.
    if (typeof version !== "number" || !Number.isInteger(version) || version < 1) {
      return this.#guessed(newest, []);
    }
    if (version > newest) {
      throw new NewerVersion(
        `${this.#what} has version ${version}, and this program knows up to version ${newest}`,
      );
    }
    return this.#validated(
      version,
      this.#json,
      (value) => this.#upgraded(version, value),
      (text) => {
        throw this.#unfit(
          `the payload does not fit the schema of its version: ${this.#of(version, text)}`,
        );
      },
    );
  }

  /** The newest schema that accepts the payload decides, from `version` downwards. */
  #guessed(version: number, refused: readonly string[]): unknown {
    if (version === 0) {
      throw this.#unfit(`the payload fits no version of its schema: ${refused.join(" | ")}`);
    }
    return this.#validated(
      version,
      this.#json,
      (value) => this.#upgraded(version, value),
      (text) => this.#guessed(version - 1, [...refused, this.#of(version, text)]),
    );
  }

  #upgraded(version: number, value: unknown): unknown {
    const { versions } = this.#definition;
    if (version === versions.length) return value;
    const { upgrade } = versions[version - 1]!;
    return next(upgrade!(value), (input) => {
      this.upgrade = { input };
      return this.#validated(
        version + 1,
        input,
        (output) => this.#upgraded(version + 1, output),
        (text) => {
          throw this.#unfit(
            `the upgraded payload does not fit the next version: ${text} (version ${version} ` +
              `upgraded to ${version + 1})`,
          );
        },
      );
    });
  }

  #validated(
    version: number,
    value: unknown,
    fits: (output: unknown) => unknown,
    not: (issues: string) => unknown,
  ): unknown {
    const { schema } = this.#definition.versions[version - 1]!;
    if (schema === undefined) return fits(value);
    return next(schema["~standard"].validate(value), (given) => {
      const result = given as StandardResult<unknown>;
      return result.issues === undefined ? fits(result.value) : not(issuesText(result.issues));
    });
  }

  /** The issues, and the version behind them if there are several. */
  #of(version: number, issues: string): string {
    return this.#definition.versions.length === 1 ? issues : `${issues} (version ${version})`;
  }

  /** The id comes last: dead letters are grouped by how their errors begin, up to a digit. */
  #unfit(how: string): DeadLetter {
    return new DeadLetter(`${how} (${this.#what})`);
  }
}
