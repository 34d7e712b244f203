-- How every install and every upgrade begins. All files run in one transaction: this one, tables.sql or the
-- missing upgrades, the functions, rights.sql, end.sql. `hark sql` prints them as one statement, which also gives
-- them their settings (src/schema/script.ts).

-- Which functions there are, and the ctid of each: the ctid of a replaced function changes (end.sql).
select set_config('hark.functions_before', coalesce(string_agg(p.oid || ' ' || p.ctid, ';'), ''), true)
from pg_proc p where p.pronamespace = to_regnamespace('hark');
