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

-- What this role has added belongs to the schema's owner, as all else does. Or functions would run with another
-- role's rights, and the owner could make no later upgrade.
do $$
declare
  owner constant oid := (select n.nspowner from pg_namespace n where n.nspname = 'hark');
  kind text;
  named text;
begin
  for kind, named in
    select 'function', p.oid::regprocedure::text from pg_proc p
    where p.pronamespace = 'hark'::regnamespace and p.proowner <> owner
    union all
    -- Also views and sequences. The sequence of an identity column changes with its table.
    select 'table', c.oid::regclass::text from pg_class c
    where c.relnamespace = 'hark'::regnamespace and c.relowner <> owner and c.relkind = any ('{r,p,v,S}')
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'i'
        and c.relkind = 'S')
    union all
    select 'type', t.oid::regtype::text from pg_type t left join pg_class c on c.oid = t.typrelid
    where t.typnamespace = 'hark'::regnamespace and t.typowner <> owner and t.typtype = any ('{c,d,e}')
      and coalesce(c.relkind, 'c') = 'c'
  loop
    execute format('alter %s %s owner to %I', kind, named, pg_get_userbyid(owner));
  end loop;
end
$$;

revoke execute on all functions in schema hark from public;
select hark.renew_grants();
select hark.renew_watches();
-- A new install makes the first segments of the log.
select hark.add_segments() where not exists (select from hark.schema_version);
