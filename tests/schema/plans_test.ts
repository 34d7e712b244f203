/** Settings that make PostgreSQL plan slowly or badly: each statement then takes a hundred times as long. */

import { testDefaults } from "./_support/defaults.ts";

testDefaults({ jit: "on", jit_above_cost: "0" });
testDefaults({
  plan_cache_mode: "force_generic_plan",
  enable_seqscan: "off",
  force_parallel_mode: "on",
});
