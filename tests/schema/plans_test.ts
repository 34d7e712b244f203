/** Settings that make PostgreSQL plan slowly or badly: each statement then takes a hundred times as long. */

import { patient } from "../harness/mod.ts";
import { testDefaults } from "./_support/defaults.ts";

const slowly = { options: { readerTimeout: patient(8000), queryTimeout: patient(30_000) } };

testDefaults({ jit: "on", jit_above_cost: "0" }, slowly);
testDefaults({
  plan_cache_mode: "force_generic_plan",
  enable_seqscan: "off",
  force_parallel_mode: "on",
}, slowly);
