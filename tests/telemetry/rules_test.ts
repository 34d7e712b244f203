/** The alert rules, by Prometheus's own tool where the machine has it (Debian's package `prometheus`). */

import assert from "node:assert/strict";
import { join } from "node:path";
import { PROJECT, scratch, spawn, test } from "../harness/mod.ts";

/** As the permissions of the tests name them. */
const promtool = ["/usr/bin/promtool", "/usr/local/bin/promtool"].find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
});

const rules = join(PROJECT, "ops/alerts.yml");

/** What is measured for ten minutes, and the alerts that have to fire at its end. */
const situations = `
rule_files: [${rules}]
evaluation_interval: 1m
tests:
  - name: all is well
    interval: 1m
    input_series:
      - { series: 'hark_reporting{db_namespace="shop"}', values: 1+0x10 }
      - { series: 'hark_consumer_lag_time_seconds{db_namespace="shop", messaging_consumer_group_name="billing"}', values: 0+0x10 }
      - { series: 'hark_consumer_workers{db_namespace="shop", messaging_consumer_group_name="billing"}', values: 1+0x10 }
      - { series: 'hark_inbox_dead{db_namespace="shop", hark_inbox="in"}', values: 0+0x10 }
      - { series: 'hark_relay_stuck_seconds{db_namespace="shop", messaging_consumer_group_name="out"}', values: 0+0x10 }
      - { series: 'hark_relay_endpoints_disabled{db_namespace="shop", messaging_consumer_group_name="out"}', values: 0+0x10 }
    alert_rule_test:
      - { eval_time: 10m, alertname: HarkConsumerLags, exp_alerts: [] }
      - { eval_time: 10m, alertname: HarkNotMeasured, exp_alerts: [] }
      - { eval_time: 10m, alertname: HarkConsumerUnserved, exp_alerts: [] }
      - { eval_time: 10m, alertname: HarkInboxDeadLetters, exp_alerts: [] }
      - { eval_time: 10m, alertname: HarkRelayStuck, exp_alerts: [] }
      - { eval_time: 10m, alertname: HarkEndpointsDisabled, exp_alerts: [] }
  - name: a consumer falls behind, and no worker serves it
    interval: 1m
    input_series:
      - { series: 'hark_reporting{db_namespace="shop"}', values: 1+0x10 }
      - { series: 'hark_consumer_lag_time_seconds{db_namespace="shop", messaging_consumer_group_name="billing"}', values: 61+60x10 }
      - { series: 'hark_consumer_workers{db_namespace="shop", messaging_consumer_group_name="billing"}', values: 0+0x10 }
    promql_expr_test:
      - expr: count by (alertname, severity) (ALERTS{alertstate="firing"})
        eval_time: 10m
        exp_samples:
          - { labels: '{alertname="HarkConsumerLags", severity="page"}', value: 1 }
          - { labels: '{alertname="HarkConsumerUnserved", severity="ticket"}', value: 1 }
  - name: nothing measures, so that all other rules are silent
    interval: 1m
    input_series:
      - { series: 'hark_reporting{db_namespace="shop"}', values: 0+0x10 }
    promql_expr_test:
      - expr: count by (alertname, severity) (ALERTS{alertstate="firing"})
        eval_time: 10m
        exp_samples:
          - { labels: '{alertname="HarkNotMeasured", severity="page"}', value: 1 }
  - name: a consumer sleeps, and another one is drained from time to time
    interval: 1m
    input_series:
      - { series: 'hark_reporting{db_namespace="shop"}', values: 1+0x10 }
      - { series: 'hark_consumer_lag_time_seconds{db_namespace="shop", messaging_consumer_group_name="asleep"}', values: 0+0x10 }
      - { series: 'hark_consumer_workers{db_namespace="shop", messaging_consumer_group_name="asleep"}', values: 0+0x10 }
      - { series: 'hark_consumer_lag_time_seconds{db_namespace="shop", messaging_consumer_group_name="drained"}', values: '0 20 40 59 0 20 40 59 0 20 40' }
      - { series: 'hark_consumer_workers{db_namespace="shop", messaging_consumer_group_name="drained"}', values: 0+0x10 }
    alert_rule_test:
      - { eval_time: 10m, alertname: HarkConsumerUnserved, exp_alerts: [] }
  - name: a drain that is not scraped gives a notification up
    interval: 1m
    input_series:
      - { series: 'hark_reporting{db_namespace="shop"}', values: 1+0x20 }
      - { series: 'hark_consumer_dead{db_namespace="shop", messaging_consumer_group_name="billing"}', values: 2+0x17 3+0x2 }
      - { series: 'hark_consumer_dead{db_namespace="shop", messaging_consumer_group_name="old"}', values: 2+0x20 }
    promql_expr_test:
      - expr: count by (alertname, messaging_consumer_group_name) (ALERTS{alertstate="firing"})
        eval_time: 20m
        exp_samples:
          - { labels: '{alertname="HarkDeadLetters", messaging_consumer_group_name="billing"}', value: 1 }
  - name: one of two databases does not answer
    interval: 1m
    input_series:
      - { series: 'hark_reporting{db_namespace="shop", instance="a"}', values: 1+0x10 }
      - { series: 'hark_reporting{db_namespace="books", instance="a"}', values: 0+0x10 }
      - { series: 'hark_reporting{db_namespace="books", instance="b"}', values: -1+0x10 }
    promql_expr_test:
      - expr: count by (alertname, db_namespace) (ALERTS{alertstate="firing"})
        eval_time: 10m
        exp_samples:
          - { labels: '{alertname="HarkNotMeasured", db_namespace="books"}', value: 1 }
  - name: all processes sleep
    interval: 1m
    input_series:
      - { series: 'hark_reporting{db_namespace="shop"}', values: -1+0x10 }
    alert_rule_test:
      - { eval_time: 10m, alertname: HarkNotMeasured, exp_alerts: [] }
  - name: no process is scraped
    interval: 1m
    input_series:
      - { series: 'up', values: 0+0x10 }
    promql_expr_test:
      - expr: count by (alertname, severity) (ALERTS{alertstate="firing"})
        eval_time: 10m
        exp_samples:
          - { labels: '{alertname="HarkNotMeasured", severity="page"}', value: 1 }
  - name: an inbox has dead letters and waits, a relay waits for its target and has disabled an endpoint
    interval: 1m
    input_series:
      - { series: 'hark_reporting{db_namespace="shop"}', values: 1+0x10 }
      - { series: 'hark_inbox_dead{db_namespace="shop", hark_inbox="in"}', values: 2+0x10 }
      - { series: 'hark_relay_stuck_seconds{db_namespace="shop", messaging_consumer_group_name="out"}', values: 61+60x10 }
      - { series: 'hark_relay_endpoints_disabled{db_namespace="shop", messaging_consumer_group_name="out"}', values: 1+0x10 }
      - { series: 'hark_inbox_stuck_seconds{db_namespace="shop", hark_inbox="in"}', values: 61+60x10 }
    promql_expr_test:
      - expr: count by (alertname, severity) (ALERTS{alertstate="firing"})
        eval_time: 10m
        exp_samples:
          - { labels: '{alertname="HarkInboxDeadLetters", severity="ticket"}', value: 1 }
          - { labels: '{alertname="HarkRelayStuck", severity="ticket"}', value: 1 }
          - { labels: '{alertname="HarkEndpointsDisabled", severity="ticket"}', value: 1 }
          - { labels: '{alertname="HarkInboxStuck", severity="ticket"}', value: 1 }
`;

test("Prometheus takes the alert rules, and they fire when something is wrong and only then", {
  schema: false,
  ignore: promtool === undefined,
}, async ({ use }) => {
  const folder = use(await scratch());
  const path = join(folder.path, "situations.yml");
  await Deno.writeTextFile(path, situations);
  for (const args of [["check", "rules", rules], ["test", "rules", path]]) {
    const child = use(spawn(promtool!, args));
    const { code, stdout, stderr } = await child.ended({ deadline: 30_000 });
    assert.equal(code, 0, `${stdout}${stderr}`);
  }
});
