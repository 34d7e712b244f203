-- How every install and every upgrade begins. All files run in one transaction: this one, tables.sql or the
-- missing upgrades, the functions, rights.sql, end.sql. `hark sql` prints them as one statement.

set local search_path = pg_catalog, pg_temp;
-- Functions call each other in circles, so in any order some bodies could not be checked. A test
-- checks them all.
set local check_function_bodies = off;

-- Which functions there are, and the ctid of each: the ctid of a replaced function changes (end.sql).
select set_config('hark.functions_before', coalesce(string_agg(p.oid || ' ' || p.ctid, ';'), ''), true)
from pg_proc p where p.pronamespace = to_regnamespace('hark');
