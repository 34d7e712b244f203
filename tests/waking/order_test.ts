import { type Client, test, until } from "../harness/mod.ts";

test("two readers that fall asleep and remove each other's expired rows do not deadlock", async ({ sql, client }) => {
  const [a, b] = [crypto.randomUUID(), crypto.randomUUID()];
  for (const [sleeper, channels] of [[a, ["a1", "a2"]], [b, ["b1", "b2"]]]) {
    await sql("select hark.sleep($1, $2, null, 600000)", [sleeper, channels]);
  }
  await sql("update hark.sleepers set until = 'epoch'");
  // Holds one row of the first reader, so that this one waits in the middle of its call.
  const isWaiting = async (of: Client) => {
    const { processID } = of as unknown as { processID: number };
    const waits = "select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'";
    return (await sql(waits, [processID])).length > 0;
  };
  const holder = await client();
  await holder.query("begin");
  await holder.query("select from hark.sleepers where channel = 'a1' for update");
  const [first, second] = [await client(), await client()];
  const asleep = first.query("select hark.sleep($1, array['a1', 'a2'], null, 600000)", [a]);
  await until(() => isWaiting(first));
  let returned = false;
  const other = second.query("select hark.sleep($1, array['b1', 'b2'], null, 600000)", [b])
    .finally(() => returned = true);
  await until(async () => returned || await isWaiting(second));
  await holder.query("commit");
  await Promise.all([asleep, other]);
});
