import assert from "node:assert/strict";
import { type Entry, judge, type Published } from "./_support/ledger.ts";

/** `a1` is version 1 of key a. */
function published(...names: string[]): Published[] {
  return names.map((name, n) => ({
    id: n + 1,
    channel: "c",
    key: name[0]!,
    version: Number(name[1]),
    token: name,
  }));
}

/** `1+a1`: worker 1 begins a1; `1-a1`: it ends it; `1!a1`: it fails. */
function entries(text: string): Entry[] {
  return text.split(" ").map((word) => ({
    what: word[1] === "+" ? "began" : word[1] === "-" ? "ended" : "failed",
    consumer: "c",
    worker: Number(word[0]),
    id: 0,
    key: word[2]!,
    version: Number(word[3]),
    token: word.slice(2),
    attempt: 1,
    at: 0,
  }));
}

const all = published("a1", "a2", "b1");

/** What a ledger breaks. */
function broken(text: string) {
  const { repeats, ...lists } = judge(all, entries(text));
  const names = Object.entries(lists).filter(([, list]) => list.length > 0).map(([name]) => name);
  return { repeats, broken: names };
}

Deno.test("a ledger in which each key is in order is right, repeats after a take-over included", () => {
  const right = "1+a1 1-a1 1+b1 1+a2 2+a1 2-a1 2+a2 2-a2 1-b1 1-a2";
  assert.deepEqual(broken(right), { repeats: 2, broken: [] });
});

Deno.test("a notification that was tried again is no repeat", () => {
  const right = "1+a1 1!a1 1+b1 1-b1 1+a1 1-a1 1+a2 1-a2";
  assert.deepEqual(broken(right), { repeats: 0, broken: [] });
});

Deno.test("a ledger tells what is missing, was never committed, was overtaken, ran beside another", () => {
  assert.deepEqual(broken("1+a1 1-a1 1+b1 1-b1 1+a2 1!a2").broken, ["missing"]);
  assert.deepEqual(broken("1+a1 1-a1 1+a2 1-a2 1+b1 1-b1 1+b2 1-b2").broken, ["ghosts"]);
  assert.deepEqual(broken("1+a2 1-a2 1+a1 1-a1 1+b1 1-b1").broken, ["overtaken"]);
  assert.deepEqual(broken("1+a1 1+a2 1-a1 1-a2 1+b1 1-b1").broken, ["overlapping"]);
});
