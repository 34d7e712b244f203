-- How every install and every upgrade begins. All files run in one transaction: this one, tables.sql or the upgrades that
-- are missing, the functions, rights.sql, end.sql. `hark sql` prints them as one statement.

set local search_path = pg_catalog, pg_temp;
-- Functions call each other in circles, so none can be the first whose body is checked. A test checks them all.
set local check_function_bodies = off;

-- Which functions there are, and where: one that is replaced comes to lie elsewhere (end.sql).
select set_config('hark.functions_before', coalesce(string_agg(p.oid || ' ' || p.ctid, ';'), ''), true)
from pg_proc p where p.pronamespace = to_regnamespace('hark');
