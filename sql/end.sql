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

-- Deletes the row of a watch that is marked as removed, also in a session with session_replication_role = replica.
-- Only if it is not there: its lock waits for every open transaction that has touched the table. An upgrade that
-- changes it drops it first.
do $$
begin
  if not exists (
    select from pg_trigger t where t.tgrelid = 'hark.watches'::regclass and t.tgname = 'remove' and t.tgenabled = 'A'
  ) then
    create or replace trigger remove after insert or update of removed on hark.watches
    for each row when (new.removed) execute function hark.drop_watch_row();
    alter table hark.watches enable always trigger remove;
  end if;
end
$$;

revoke execute on all functions in schema hark from public;
select hark.renew_grants();
select hark.renew_watches();
-- A new install makes the first segments of the log.
select hark.add_segments() where not exists (select from hark.schema_version);
