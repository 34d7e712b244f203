import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";

test("the end of a window never lies above an id that is yet to be drawn, however busy the sequence", async (context) => {
  // nextval shows, while it logs every 32nd value, one that is 32 ahead. A reader that takes it for the end
  // of its window loses what gets those ids. Two writers draw; the third, between its own, looks.
  const writers = await Promise.all([context.client(), context.client()]);
  const drawing = writers.map((client) =>
    client.query(`do $$
      declare
        ends constant timestamptz := clock_timestamp() + interval '3 s';
      begin
        while clock_timestamp() < ends loop
          perform nextval('hark.log_id_seq') from generate_series(1, 1000);
        end loop;
      end $$`)
  );
  const looker = await context.client();
  await looker.query(
    `create function look() returns table (looks bigint, ahead bigint) language plpgsql as $$
    declare
      ends constant timestamptz := clock_timestamp() + interval '3 s';
      seen bigint;
    begin
      looks := 0;
      ahead := 0;
      while clock_timestamp() < ends loop
        seen := hark.last_drawn_id();
        looks := looks + 1;
        if seen >= nextval('hark.log_id_seq') then ahead := ahead + 1; end if;
      end loop;
      return next;
    end $$`,
  );
  const { rows: [row] } = await looker.query("select looks::int, ahead::int from look()");
  await Promise.all(drawing);
  assert(row.looks > 1000);
  assert.equal(row.ahead, 0, `of ${row.looks} looks`);
});

test("where nothing has been drawn the log itself says how far it goes", async (context) => {
  const drawn = async () => Number((await context.sql("select hark.last_drawn_id() as id"))[0].id);
  assert.equal(await drawn(), 0);
  await context.sql("select hark.notify('c') from generate_series(1, 5)");
  assert.equal(await drawn(), 5);
  // As after a restore that forgot the sequence's value.
  await context.sql("alter sequence hark.log_id_seq restart");
  assert.equal(await drawn(), 5);
  await context.sql("select setval('hark.log_id_seq', 70, false)");
  assert.equal(await drawn(), 5);
  await context.sql("select hark.notify('c')");
  assert.equal(await drawn(), 70);
});
