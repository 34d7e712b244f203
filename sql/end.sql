-- How every install and every upgrade ends.

-- Drops functions of an earlier version that this version does not have.
do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'hark'::regnamespace
      and p.oid || ' ' || p.ctid = any (string_to_array(current_setting('hark.functions_before'), ';'))
  loop
    execute format('drop function %s', f);
  end loop;
end
$$;

revoke execute on all functions in schema hark from public;
select hark.renew_grants();
select hark.renew_watches();
-- A new install makes the first segments of the log.
select hark.add_leaves() where not exists (select from hark.schema_version);
