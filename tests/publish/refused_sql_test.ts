/** What SQL callers are told of wrong arguments: the value, the reason and the remedy. */

import assert from "node:assert/strict";
import { harkError } from "../../src/publish/mod.ts";
import { test } from "../harness/mod.ts";

const noChannel = ["the channel is null", "Give a channel of 1 to 200 characters.", "BAD_CHANNEL"];
const emptyChannel = ['channel "" has 0 characters', noChannel[1], "BAD_CHANNEL"];
const longChannel = [
  `channel "${"x".repeat(40)}..." has 201 characters`,
  noChannel[1],
  "BAD_CHANNEL",
];
const longKey = [
  `key "${"ü".repeat(40)}..." has 1001 characters`,
  "Give a key of at most 1000 characters.",
  "BAD_PAYLOAD",
];
const headers = (shown: string) => [
  `the headers are ${shown}, which is not an object`,
  'Give an object, such as {"by": "shop"}, or leave them out.',
  "BAD_PAYLOAD",
];
const at = (place: number, [message, ...rest]: (string | undefined)[]) => [
  `notification ${place} of the array: ${message}`,
  ...rest,
];
const noArray = [
  "notifications is null",
  'Give an array, such as [{"channel": "orders"}].',
  "BAD_OPTION",
];
const schedule = (arguments_: string) => `hark.schedule(${arguments_})`;

const cases: [call: string, told: (string | undefined)[]][] = [
  ["hark.notify('')", emptyChannel],
  ["hark.notify(null)", noChannel],
  ["hark.notify(null, '1', 'k', '{}')", noChannel],
  ["hark.notify(repeat('x', 201))", longChannel],
  ["hark.notify('c', '1', repeat('ü', 1001))", longKey],
  ["hark.notify('c', '1', null, '[1]')", headers("[1]")],
  ["hark.notify('c', '1', null, 'null')", headers("null")],
  ["hark.smart_notify(null)", noChannel],
  [`hark.notify_many('[{"channel": "c"}, {}]')`, at(2, noChannel)],
  [`hark.notify_many('[{"channel": ""}]')`, at(1, emptyChannel)],
  [`hark.notify_many('[{"channel": "c", "headers": 5}]')`, at(1, headers("5"))],
  [
    `hark.notify_many(json_build_array(json_build_object('channel', 'c', 'key', repeat('ü', 1001))))`,
    at(1, longKey),
  ],
  ["hark.notify_at(null, deliver_at => now())", noChannel],
  ["hark.notify_at('', deliver_at => now())", emptyChannel],
  ["hark.notify_at('c', '1', null, '[]', now())", headers("[]")],
  ["hark.notify_once(null, dedupe_key => 'a')", noChannel],
  ["hark.notify_once(repeat('x', 201), dedupe_key => 'a')", longChannel],
  ["hark.notify_once('c', '1', null, '[]', 'a')", headers("[]")],
  ["hark.notify_many(null)", noArray],
  ["hark.notify_each(null)", noArray],
  ["hark.notify_each('[{}]')", at(1, noChannel)],
  [`hark.notify_each('[{"channel": "c"}, {"channel": null}]')`, at(2, noChannel)],
  [
    `hark.notify_each('[{"channel": "c"}, {"channel": "", "dedupe_key": "a"}]')`,
    at(2, emptyChannel),
  ],
  [`hark.notify_each('[{"channel": "c"}, {"channel": "c", "headers": []}]')`, at(2, headers("[]"))],
  [
    `hark.notify_each('[{"channel": "c", "dedupe_key": ""}]')`,
    at(1, ["dedupe_key has 0 characters", "Give 1 to 200 characters.", "BAD_OPTION"]),
  ],
  [
    `hark.notify_each('[{"channel": "c"}, {"channel": "c", "delay_ms": -1}]')`,
    at(2, [
      "delay is -1 ms",
      "Give milliseconds, from 0 to 315619200000 (10 years).",
      "BAD_OPTION",
    ]),
  ],
  [
    `hark.notify_each('[{"channel": "c"}, {"channel": "c", "deliver_at": "infinity"}]')`,
    at(2, [
      "a notification cannot be delivered at infinity",
      "Give a time, or publish it at once with hark.notify.",
      "BAD_OPTION",
    ]),
  ],
  ["hark.set_retention('1 day', '')", emptyChannel],
  [schedule("'', '* * * * *', 'UTC', now(), 'c'"), [
    'name "" has 0 characters',
    "Give a name of 1 to 200 characters.",
    "BAD_OPTION",
  ]],
  [schedule("'n', '', 'UTC', now(), 'c'"), [
    'cron pattern "" has 0 characters',
    "Give a cron pattern such as 0 3 * * *.",
    "BAD_OPTION",
  ]],
  [schedule("'n', '* * * * *', '', now(), 'c'"), [
    'time zone "" has 0 characters',
    "Give a time zone such as Europe/Berlin.",
    "BAD_OPTION",
  ]],
  [schedule("'n', '* * * * *', 'UTC', now(), 'c', missed => 'all'"), [
    'missed is "all"',
    "Give once or skip.",
    "BAD_OPTION",
  ]],
  [schedule("'n', '* * * * *', 'UTC', now(), ''"), emptyChannel],
  [schedule("'n', '* * * * *', 'UTC', now(), 'c', headers => '[]'"), headers("[]")],
];

test("SQL says what is wrong with an argument, the reason and the remedy, and shows no row", async ({ client, sql }) => {
  const db = await client();
  for (const context of ["", '{"by": "me"}']) {
    await db.query("select set_config('hark.context', $1, false)", [context]);
    for (const [call, [message, hint, code]] of cases) {
      await assert.rejects(db.query(`select ${call}`), (error: Error) => {
        const { code: state, hint: told, detail } = error as Error & Record<string, unknown>;
        assert.deepEqual(
          [error.message, told, state, detail],
          [message, hint, "HK006", undefined],
          call,
        );
        const { code: kind, remedy } = harkError(error);
        assert.deepEqual([kind, remedy], [code, hint], call);
        return true;
      });
    }
  }
  const [{ stored }] = await sql(
    `select (select count(*) from hark.log) + (select count(*) from hark.delayed)
      + (select count(*) from hark.dedupe) as stored`,
  );
  assert.equal(Number(stored), 0);
});
