-- Which watch belongs to which table, its triggers, and its drift: what is not as the watch needs it.

-- Each watch with its table. The link is the trigger function, which stays if the table or its schema is
-- renamed. If its triggers are gone, the table's name counts.
--   relation  the table, if it belongs to the watch's owner
--   left_on   the table, if it has got another owner
--   is_live   its triggers are on the table
--   is_own    the function is the watch's. A role can write any function's name into its own rows.
create or replace function hark.known_watches()
returns table (relation oid, function oid, watch hark.watches, left_on oid, is_live boolean, is_own boolean)
language sql stable set search_path = pg_catalog, pg_temp set row_security = on
as $$
  select case when k.is_owned then k.table_id end, k.function, k.watch, case when not k.is_owned then k.table_id end,
    k.root is not null and (k.is_owned or k.is_own), k.is_own
  from (
    select c.oid as table_id, p.oid as function, w as watch, t.root, pg_get_userbyid(c.relowner) = w.owner as is_owned,
      -- REASSIGN OWNED and pg_restore --no-owner give the table and the function to one role.
      coalesce(pg_get_userbyid(p.proowner) = w.owner or t.root is not null and p.proowner = c.relowner and not exists (
        select from hark.watches o where o.function_schema = w.function_schema and o.function_name = w.function_name
          and o.owner = pg_get_userbyid(p.proowner)), false) as is_own
    from hark.watches w
    left join pg_namespace fn on fn.nspname = w.function_schema
    -- For a schema that has been renamed: no other function has this function's name.
    left join pg_proc p on p.proname = w.function_name and p.pronargs = 0
      and (p.pronamespace = fn.oid or fn.oid is null and pg_get_userbyid(p.proowner) = w.owner)
    left join pg_namespace n on n.nspname = w.table_schema
    left join pg_class named on named.relnamespace = n.oid and named.relname = w.table_name
    -- A table that no longer inherits from the watched one still has its triggers.
    left join lateral (
      select hark.watched_root(t.tgrelid, t.tgfoid) as root from pg_trigger t where t.tgfoid = p.oid
      order by t.tgrelid::text = w.definition ->> 'relation' desc, t.tgrelid = named.oid desc, t.tgrelid limit 1
    ) t on true
    left join pg_class c on c.oid = coalesce(t.root, named.oid)
  ) k
$$;

-- A watch of a table. Raises an error if there is none, or if an earlier owner of the table made it.
create or replace function hark.known_watch(relation regclass, name text) returns hark.watches
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.watches;
  owner text := (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = $1);
begin
  select (k.watch).* into w from hark.known_watches() k where k.relation = $1 and (k.watch).name = $2;
  if found then
    return w;
  end if;
  select (k.watch).* into w from hark.known_watches() k where k.left_on = $1 and (k.watch).name = $2
  order by k.is_live desc limit 1;
  if not found then
    raise exception 'table % has no watch "%"', $1, $2
      using errcode = 'HK006', hint = 'Watch it first: select hark.watch(...).';
  end if;
  raise exception 'role "%" made the watch "%" of table %, which belongs to role "%" now', w.owner, $2, $1, owner
    using errcode = 'HK008', hint = format('As role %s: watch the table again (hark.watch), or end the watch (hark.unwatch).',
      quote_ident(owner));
end
$$;

-- The triggers that a watch needs: the table, the trigger's name, its statement, and its type in pg_trigger.
create or replace function hark.watch_triggers(relation oid, definition jsonb, function text)
returns table (on_relation oid, trigger_name text, statement text, type smallint)
language plpgsql stable set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
declare
  d jsonb := definition;
  mode text := d ->> 'mode';
  prefix text := case when d ->> 'mode' = 'instead' then '~hark_' else '00_hark_' end || (d ->> 'name') || '_';
  -- PostgreSQL copies the row triggers of a partitioned table to its partitions under the same names. A
  -- partition, or a table that inherits, may be watched itself, also under the same name. So the names of
  -- triggers that come from the table above end like its function.
  tag constant text := coalesce(substring(function, '_([0-9a-f]{8})"?$'), lpad(to_hex(hashtext(function)), 8, '0')) || '_';
  root_kind constant "char" := (select c.relkind from pg_class c where c.oid = $1);
  kind "char";
  operation text;
  of_rows oid[];
  on_table oid;
  transitions text;
begin
  -- Triggers of one event fire in the order of their names. These must fire before all others, or on a
  -- view after them.
  if mode <> 'instead' and exists (
    select from pg_trigger t where t.tgrelid = any (hark.tree_of($1)) and not t.tgisinternal and t.tgname < '00_hark_'
      and not hark.is_watch_function(t.tgfoid)
  ) then
    prefix := '  hark_' || (d ->> 'name') || '_';
  end if;
  foreach operation in array array['insert', 'update', 'delete', 'truncate'] loop
    continue when not d -> 'operations' ? operation;
    -- PostgreSQL clones row triggers of a partitioned table to its partitions. It does not clone those
    -- of inherited tables.
    of_rows := case when mode = 'row' and root_kind = 'r' or operation = 'truncate' then hark.tree_of($1) else array[$1] end;
    foreach on_table in array of_rows loop
      -- PostgreSQL cuts a name to 63 bytes, as this cast does. What is left tells the operations apart.
      trigger_name := (prefix || case when root_kind = 'p' or on_table <> $1 then tag else '' end || operation)::name;
      on_relation := on_table;
      select c.relkind into kind from pg_class c where c.oid = on_table;
      if operation = 'truncate' then
        continue when kind = 'v' or kind = 'f' and current_setting('server_version_num')::integer < 160000;
        statement := 'after truncate on %s for each statement';
        type := 32;
      elsif mode = 'statement' then
        transitions := case operation when 'insert' then 'new table as hark_new' when 'delete' then 'old table as hark_old'
          else 'old table as hark_old new table as hark_new' end;
        statement := 'after ' || operation || ' on %s referencing ' || transitions || ' for each statement';
        type := case operation when 'insert' then 4 when 'delete' then 8 else 16 end;
      else
        continue when mode = 'instead' and not exists (
          select from pg_trigger t
          where t.tgrelid = on_table and t.tgtype & 64 <> 0 and not hark.is_watch_function(t.tgfoid)
            and t.tgtype & case operation when 'insert' then 4 when 'delete' then 8 else 16 end <> 0
        );
        statement := case mode when 'instead' then 'instead of ' else 'after ' end || operation || ' on %s for each row';
        type := 1 + case operation when 'insert' then 4 when 'delete' then 8 else 16 end + case mode when 'instead' then 64 else 0 end;
      end if;
      statement := format('create or replace trigger %I ' || statement || ' execute function %s()', trigger_name,
        on_table::regclass, function);
      if (d ->> 'replicated')::boolean then
        statement := statement || format(E';\nalter table %s enable always trigger %I', on_table::regclass, trigger_name);
      end if;
      return next;
    end loop;
  end loop;
end
$$;

-- The drift of a watch: what is not as it should be with its triggers and their function. Empty if
-- all is well.
create or replace function hark.drift_of(relation oid, function oid, definition jsonb) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
declare
  d jsonb := definition;
  found_drift text[] := '{}';
  f record;
  now_mode record;
  t record;
  other record;
  gone text;
  kind "char" := (select c.relkind from pg_class c where c.oid = relation);
  again constant text := '; repair it (hark.rewatch, hark watch repair)';
begin
  if relation is null then
    return array['the table is gone'];
  end if;
  select p.prosrc, p.proowner, p.proname, n.nspname, p.prosecdef, p.proconfig into f from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where p.oid = function;
  if not found then
    return array['the trigger function is gone' || again];
  end if;
  if f.proowner <> (select c.relowner from pg_class c where c.oid = relation) then
    found_drift := found_drift || ('the trigger function belongs to another role than the table' || again);
  end if;
  if not has_schema_privilege(f.proowner, 'hark'::regnamespace, 'usage')
    or not has_table_privilege(f.proowner, 'hark.published'::regclass, 'insert')
    or not has_function_privilege(f.proowner, 'hark.wake(text)'::regprocedure, 'execute')
  then
    found_drift := found_drift || format('role "%s", which owns the table, may not publish, so writes to the table fail; select hark.grant_publish(%L)',
      pg_get_userbyid(f.proowner), pg_get_userbyid(f.proowner));
  end if;
  if f.prosrc <> hark.watch_body(relation, d) then
    found_drift := found_drift || case
      when d -> 'columns' <> (select coalesce(jsonb_object_agg(a.attnum, a.attname), '{}') from pg_attribute a
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped)
      then 'its columns have changed: changes are published more slowly' || again
      else 'its columns or keys have changed, or it was made by another version of Hark' || again end;
  end if;
  if not f.prosecdef or f.proconfig is null then
    found_drift := found_drift || ('the trigger function was altered' || again);
  end if;
  for t in
    select l.what, n.name from (values ('key'), ('include'), ('exclude'), ('if_changed')) l (what)
    cross join lateral jsonb_array_elements_text(case when jsonb_typeof(d -> l.what) = 'array' then d -> l.what else '[]' end) n (name)
    where n.name <> '*' and hark.listed(relation, d, array[n.name]) = '{}'
  loop
    found_drift := found_drift || format('column %I, which %s names, is %s%s', t.name, t.what, case when exists (
        select from pg_attribute a where a.attrelid = relation and a.attname = t.name and a.attgenerated = 'v'
      ) then 'a virtual generated column now' else 'gone' end, again);
  end loop;
  select string_agg(quote_ident(c.value), ', ' order by c.value) into gone
  from jsonb_each_text(d -> 'columns') c
  where d ->> 'condition' ~ ('(^|[^[:alnum:]_])' || regexp_replace(c.value, '([^[:alnum:]_])', E'\\\\\\1', 'g') || '($|[^[:alnum:]_])')
    -- A watch could not be defined with a virtual column in its condition. So one that was there only has its name in it.
    and not exists (select from pg_attribute a where a.attrelid = relation and a.attname = c.value and a.attnum > 0 and not a.attisdropped
      and (a.attgenerated <> 'v' or a.attnum::text = c.key));
  if gone is not null then
    found_drift := found_drift || format('its condition names %s, which is gone, has another name or is a virtual generated column now: all changes are published; watch the table with another condition', gone);
  end if;
  for t in
    select g.tgname, g.tgrelid::regclass as on_relation, g.tgenabled from pg_trigger g
    where g.tgfoid = function and (g.tgparentid <> 0 and g.tgenabled = 'D' or g.tgrelid <> all (hark.tree_of(relation)))
    order by 2
  loop
    found_drift := found_drift || case when t.tgenabled = 'D'
      then format('trigger %I on %s is disabled', t.tgname, t.on_relation)
      else format('trigger %I is left on %s, which is no longer part of the table%s', t.tgname, t.on_relation, again) end;
  end loop;
  select * into now_mode from hark.watch_mode(relation, (d ->> 'replicated')::boolean);
  if d ->> 'level' = 'auto' and now_mode.mode = 'row' and d ->> 'mode' = 'statement' then
    found_drift := found_drift || (now_mode.reason || again);
  end if;
  for t in
    select n.on_relation, n.trigger_name, n.type, g.tgenabled, g.tgtype
    from hark.watch_triggers(relation, d, format('%I.%I', f.nspname, f.proname)) n
    left join pg_trigger g on g.tgrelid = n.on_relation and g.tgname = n.trigger_name and g.tgfoid = function
  loop
    if t.tgtype is null and exists (
      select from pg_trigger g where g.tgrelid = t.on_relation and g.tgfoid = function and g.tgtype = t.type
    ) then
      found_drift := found_drift || format('the trigger on %s must be named %I: triggers fire in the order of their names%s',
        t.on_relation::regclass, t.trigger_name, again);
    elsif t.tgtype is null or t.tgtype <> t.type then
      found_drift := found_drift || format('trigger %I on %s is missing%s', t.trigger_name, t.on_relation::regclass, again);
    elsif t.tgenabled = 'D' then
      found_drift := found_drift || format('trigger %I on %s is disabled', t.trigger_name, t.on_relation::regclass);
    elsif t.tgenabled <> (case when (d ->> 'replicated')::boolean then 'A' else 'O' end) then
      found_drift := found_drift || format('trigger %I on %s fires in another replication role%s', t.trigger_name,
        t.on_relation::regclass, again);
    end if;
    -- A partition may have triggers of its own beside those that it has from the table above.
    select o.tgrelid, o.tgname into other from pg_trigger o
    where o.tgrelid = any (case kind when 'p' then hark.tree_of(relation) else array[t.on_relation] end)
      and t.type & 1 = 1 and not o.tgisinternal and not hark.is_watch_function(o.tgfoid)
      and case when t.type & 64 = 0 then o.tgname < t.trigger_name and o.tgtype & 66 = 0
        else o.tgname > t.trigger_name and o.tgtype & 64 <> 0 and o.tgtype & t.type & 28 <> 0 end
    order by o.tgname limit 1;
    if found then
      found_drift := found_drift || format('trigger %I of %s fires %s %I%s', other.tgname, other.tgrelid::regclass,
        case when t.type & 64 = 0 then 'before' else 'after' end, t.trigger_name, again);
    end if;
  end loop;
  return found_drift;
end
$$;
