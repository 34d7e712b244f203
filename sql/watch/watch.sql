-- hark.watch, hark.rewatch and hark.unwatch.

-- The statements that make the trigger function of a watch. They lock no table.
create or replace function hark.watch_function_script(relation oid, definition jsonb, schema_name text, function_name text)
returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  function text := format('%I.%I', schema_name, function_name);
  body text := hark.watch_body(relation, definition);
begin
  return array[
    format(E'create or replace function %s() returns trigger\nlanguage plpgsql security definer set search_path = pg_catalog, pg_temp\n'
      -- With these settings values look the same whichever role writes. Old and new rows are joined by
      -- hashing, even if the first statement had one row and the plan is kept.
      'set timezone = ''UTC'' set datestyle = ''ISO, YMD'' set intervalstyle = postgres set extra_float_digits = 1\n'
      'set bytea_output = hex set array_nulls = on set standard_conforming_strings = on\n'
      'set enable_nestloop = off set enable_mergejoin = off set enable_material = off set jit = off\n'
      'as %s', function,
      case when strpos(body, '$hark$') > 0 then quote_literal(body) else '$hark$' || body || '$hark$' end),
    format('alter function %s() owner to %I', function,
      (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = relation)),
    format('revoke execute on function %s() from public', function),
    format('comment on function %s() is %L', function,
      format('Publishes changes of %s on channel %s: see hark.watch.', relation::regclass, definition ->> 'channel'))
  ];
end
$$;

-- The statements that install a watch, and those that remove triggers of an earlier definition that this one
-- does not have.
create or replace function hark.watch_script(relation oid, definition jsonb, schema_name text, function_name text) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  function text := format('%I.%I', schema_name, function_name);
  script text[];
  surplus text[];
  tree constant oid[] := hark.tree_of(relation);
begin
  script := hark.watch_function_script(relation, definition, schema_name, function_name)
    || array(select t.statement from hark.watch_triggers(relation, definition, function) t);
  -- Triggers of an earlier definition, also on tables that no longer belong to this one; and those of an earlier
  -- owner's watch of that name.
  surplus := array(
    select format('drop trigger %I on %s', g.tgname, g.tgrelid::regclass)
    from pg_trigger g join pg_proc p on p.oid = g.tgfoid join pg_namespace n on n.oid = p.pronamespace
    where g.tgparentid = 0 and (n.nspname = schema_name and p.proname = function_name
      or g.tgrelid = any (tree) and p.oid = any (array(
        select k.function from hark.known_watches() k
        where k.left_on = $1 and k.is_live and (k.watch).name = definition ->> 'name'))
      -- Of a watch that is not recorded. A partition may have another owner, and a watch of that name; and the
      -- table above may be watched.
      or g.tgrelid = $1 and hark.watched_root($1, p.oid) = $1 and p.proname ~ '^hark_watch_'
        and p.proowner <> (select c.relowner from pg_class c where c.oid = $1)
        and regexp_replace(g.tgname::text, '(_[0-9a-f]{8})?_[a-z]+$', '') = any (array(
          select k.prefix || (definition ->> 'name') from unnest(array['00_hark_', '  hark_', '~hark_']) k (prefix))))
      and not exists (
        select from hark.watch_triggers(relation, definition, function) t
        where t.on_relation = g.tgrelid and t.trigger_name = g.tgname
      )
  );
  -- Dropping a trigger takes the strongest lock. It is taken first: a session that holds a weaker one and
  -- waits for it can deadlock.
  return array(
    select format('lock table only %s in access exclusive mode', c.oid::regclass)
    from pg_class c where surplus <> '{}' and c.oid = any (tree) and c.relkind in ('r', 'p')
    order by c.oid <> relation, c.oid
  ) || script || surplus;
end
$$;

create or replace function hark.watch_function_name(relation oid, name text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- At most 63 bytes, in any encoding.
  select 'hark_watch_' || regexp_replace(left(c.relname, 40), '[^a-z0-9_]', '_', 'g') || '_'
    || lpad(to_hex(hashtext(c.oid || '/' || c.relowner || '/' || $2)), 8, '0')
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1
$$;

create or replace function hark.watch(
  relation regclass, channel text default null, name text default 'watch',
  operations text[] default '{insert,update,delete,truncate}', include text[] default null, exclude text[] default null,
  key text[] default null, condition text default null, if_changed text[] default null, payload text default 'full',
  headers jsonb default null, max_bytes bigint default 16777216, replicated boolean default false,
  level text default 'auto', snapshot boolean default false
) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp set row_security = on
as $$
declare
  d jsonb;
  owner text;
  kind "char";
  known record;
  schema_name text;
  made_name text;
  statement text;
  script text[];
  left_over record;
  functions oid[] := '{}';
  done text := 'created';
  is_new boolean := false;
begin
  d := hark.watch_definition(relation, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);
  select pg_get_userbyid(c.relowner), n.nspname, c.relkind into owner, schema_name, kind
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation;
  if not has_schema_privilege(owner, 'hark', 'usage') or not has_table_privilege(owner, 'hark.published', 'insert')
    or not has_function_privilege(owner, 'hark.wake(text)', 'execute')
  then
    raise exception 'role "%", which owns table %, may not publish', owner, relation
      using errcode = 'insufficient_privilege', hint = format('As the owner of the schema hark: select hark.grant_publish(%L).', owner);
  end if;
  perform hark.require_condition(relation, condition);
  for tries in 1 .. 2 loop
    select k.relation, k.function, k.is_live, (k.watch).* into known from hark.known_watches() k
    where k.relation = $1 and (k.watch).name = $3;
    if known.definition = d and hark.drift_of(relation, known.function, d) = '{}'
      and (known.snapshot_wanted or not snapshot)
    then
      return 'unchanged';
    end if;
    exit when tries = 2;
    -- One change of a table's watches at a time. An advisory lock would do, but any role can take it. LOCK knows no
    -- foreign tables, and of a view it locks what is below. COMMENT takes the same lock.
    execute case kind
      when 'v' then format('comment on view %s is %L', relation, obj_description(relation, 'pg_class'))
      when 'f' then format('comment on foreign table %s is %L', relation, obj_description(relation, 'pg_class'))
      else format('lock table only %s in share update exclusive mode', relation)
    end;
  end loop;
  if known.relation is not null then
    done := 'replaced';
    made_name := known.function_name;
    schema_name := coalesce((select n.nspname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where p.oid = known.function), known.function_schema);
    update hark.watches w set function_schema = schema_name
    where w.function_schema = known.function_schema and w.function_name = made_name and w.owner = known.owner
      and w.function_schema <> schema_name;
    -- If no trigger is left, changes have been missed, or this is another table of that name. Then a snapshot
    -- begins anew. It also does if the key differs, because its pages do.
    is_new := not exists (select from pg_trigger t where t.tgfoid = known.function)
      or hark.key_columns(relation, d) <> hark.key_columns(relation, known.definition);
    snapshot := snapshot or known.snapshot_wanted;
  else
    made_name := hark.watch_function_name(relation, $3);
  end if;
  if not has_schema_privilege(owner, schema_name, 'create') then
    raise exception 'role "%", which owns table %, may not create a function in schema "%"', owner, relation, schema_name
      using errcode = 'insufficient_privilege', hint = format('grant create on schema %I to %I.', schema_name, owner);
  end if;
  -- A function that already has that name must belong to this table's owner. A role that may can get it back,
  -- if its triggers are on this table.
  if made_name !~ '^hark_watch_' or exists (
    select from pg_proc p where p.proname = made_name and p.pronamespace = to_regnamespace(quote_ident(schema_name))
      and (p.prorettype <> 'trigger'::regtype or pg_get_userbyid(p.proowner) <> owner
        and not (done = 'replaced' and known.is_live and p.oid = known.function and pg_has_role(p.proowner, 'usage')))
  ) then
    raise exception 'function %.% exists already and does not belong to the owner of table %', schema_name, made_name, relation
      using errcode = 'HK006', hint = 'Drop or rename it.';
  end if;
  script := hark.watch_script(relation, d, schema_name, made_name);
  -- What an earlier owner of the table left. Its triggers are dropped by the script.
  for left_over in
    select k.* from hark.known_watches() k where k.left_on = $1 and (k.watch).name = $3
  loop
    perform hark.delete_watch(left_over.watch);
    if left_over.is_own then
      functions := functions || left_over.function;
    end if;
  end loop;
  foreach statement in array script loop
    execute statement;
  end loop;
  perform hark.drop_watch_function(f) from unnest(functions) f;
  insert into hark.watches as w (function_schema, function_name, table_schema, table_name, name, owner, definition, snapshot_wanted)
  values (schema_name, made_name, d ->> 'schema', d ->> 'table', $3, owner, d, snapshot)
  on conflict on constraint watches_pkey do update set
    table_schema = excluded.table_schema, table_name = excluded.table_name, definition = excluded.definition,
    snapshot_wanted = excluded.snapshot_wanted,
    snapshot_after = case when is_new then null else w.snapshot_after end,
    snapshot_count = case when is_new then 0 else w.snapshot_count end,
    snapshot_done_at = case when is_new then null else w.snapshot_done_at end,
    created_at = case when is_new then clock_timestamp() else w.created_at end;
  if snapshot then
    -- Also while a snapshot is in progress: the remaining rows are published by the new definition.
    perform hark.prepare_snapshot(relation, $3);
  end if;
  return done;
end
$$;
comment on function hark.watch(regclass, text, text, text[], text[], text[], text[], text, text[], text, jsonb, bigint, boolean, text, boolean) is
  'Publishes the changes of a table, whichever role writes. Run it as the owner of the table; it locks the '
  'table for a moment.';

-- Makes the triggers of a watch anew after its table has changed. It keeps the watch's options, with its own
-- channel and the current names of its columns.
create or replace function hark.rewatch(relation regclass, name text default 'watch') returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.watches;
  d jsonb;
  lists jsonb := '{}';
  list text;
  is_left boolean;
  done text;
begin
  -- After REASSIGN OWNED, and in a copy that another role restored, the function belongs to the table's owner
  -- already. If it does what the definition says, the definition can be kept. Otherwise another role may have
  -- written that definition, and its condition would run with the rights of this owner.
  select (k.watch).* into w
  from hark.known_watches() k join pg_class c on c.oid = k.left_on join pg_proc p on p.oid = k.function
  where k.left_on = $1 and (k.watch).name = $2 and k.is_live and p.proowner = c.relowner
    and p.prosrc = hark.watch_body($1, (k.watch).definition)
    and not exists (select from hark.known_watches() o where o.relation = $1 and (o.watch).name = $2);
  is_left := found;
  if not is_left then
    w := hark.known_watch(relation, name);
  end if;
  d := w.definition;
  foreach list in array array['include', 'exclude', 'key', 'if_changed'] loop
    if jsonb_typeof(d -> list) = 'array' then
      lists := lists || jsonb_build_object(list, case when d -> list = '["*"]' then d -> list else (
        select jsonb_agg(a.attname order by l.place)
        from unnest(hark.listed(relation, d, array(select jsonb_array_elements_text(d -> list)), list = 'exclude'))
          with ordinality l (attnum, place)
        join pg_attribute a on a.attrelid = relation and a.attnum = l.attnum
      ) end);
      -- Refuse, rather than publish columns that were to be left out, or rows that were not asked for.
      if coalesce(jsonb_array_length(nullif(lists -> list, 'null')), 0) < jsonb_array_length(d -> list) then
        raise exception 'the watch "%" of table % names columns in % that are gone or virtual now: %', name, relation, list, d -> list
          using errcode = 'HK006', hint = 'Define the watch again: select hark.watch(...).';
      end if;
    end if;
  end loop;
  done := hark.watch(relation, d ->> 'channel', name, array(select jsonb_array_elements_text(d -> 'operations')),
    (select array_agg(x.n) from jsonb_array_elements_text(lists -> 'include') x (n)),
    (select array_agg(x.n) from jsonb_array_elements_text(lists -> 'exclude') x (n)),
    (select array_agg(x.n) from jsonb_array_elements_text(lists -> 'key') x (n)), d ->> 'condition',
    (select array_agg(x.n) from jsonb_array_elements_text(lists -> 'if_changed') x (n)), d ->> 'payload',
    nullif(d -> 'headers', 'null'), (d ->> 'max_bytes')::bigint, (d ->> 'replicated')::boolean, d ->> 'level',
    is_left and w.snapshot_wanted and w.snapshot_done_at is null);
  return case when is_left then 'replaced' else done end;
end
$$;
comment on function hark.rewatch(regclass, text) is
  'Repairs a watch after its table has changed (see drift in hark.watches()), keeping its options.';

-- What hark.watch would run, as a script for a migration tool.
create or replace function hark.watch_sql(
  relation regclass, channel text default null, name text default 'watch',
  operations text[] default '{insert,update,delete,truncate}', include text[] default null, exclude text[] default null,
  key text[] default null, condition text default null, if_changed text[] default null, payload text default 'full',
  headers jsonb default null, max_bytes bigint default 16777216, replicated boolean default false,
  level text default 'auto'
) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb := hark.watch_definition(relation, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);
  schema_name text := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation);
  owner text := (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = relation);
  made_name text;
begin
  select (k.watch).function_schema, (k.watch).function_name into schema_name, made_name
  from hark.known_watches() k where k.relation = $1 and (k.watch).name = $3;
  if not found then
    select n.nspname into schema_name from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1;
    made_name := hark.watch_function_name(relation, $3);
  end if;
  -- The table's number is in the definition and, if it has partitions, in the function. In another database
  -- it is another number. There the trigger makes its statements itself, until the script is made anew there
  -- or hark.watch is called.
  return format(E'%s;\n\n%s;\n',
    array_to_string(hark.watch_script(relation, d, schema_name, made_name), E';\n\n'),
    format(E'insert into hark.watches (function_schema, function_name, table_schema, table_name, name, owner, definition)\n'
      'values (%L, %L, %L, %L, %L, %L, %L)\non conflict on constraint watches_pkey do update set\n'
      '  table_schema = excluded.table_schema, table_name = excluded.table_name, definition = excluded.definition',
      schema_name, made_name, d ->> 'schema', d ->> 'table', $3, owner, d));
end
$$;

-- Stops watching; false if there was no such watch. What was published stays. Also ends a watch of that name
-- that an earlier owner of the table made.
create or replace function hark.unwatch(relation regclass, name text default 'watch') returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  known record;
  owner oid := (select c.relowner from pg_class c where c.oid = relation);
  done boolean := false;
  t record;
begin
  for known in
    select k.* from hark.known_watches() k where $1 in (k.relation, k.left_on) and (k.watch).name = $2
  loop
    if not pg_has_role(owner, 'usage') then
      raise exception 'table % belongs to role "%"', relation, pg_get_userbyid(owner)
        using errcode = 'insufficient_privilege', hint = 'Only its owner can end a watch.';
    end if;
    perform hark.delete_watch(known.watch);
    if known.is_live and hark.is_watch_function(known.function) then
      for t in select g.tgname, g.tgrelid from pg_trigger g where g.tgfoid = known.function and g.tgparentid = 0 loop
        execute format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass);
      end loop;
    end if;
    if known.is_own then
      perform hark.drop_watch_function(known.function);
    end if;
    done := true;
  end loop;
  return done;
end
$$;
comment on function hark.unwatch(regclass, text) is
  'Stops publishing the changes of a table; false if there was no such watch.';

-- Deletes the row of a watch. Row security finds it by the triggers, so they must still be there.
create or replace function hark.delete_watch(watch hark.watches) returns void
language sql volatile set search_path = pg_catalog, pg_temp set row_security = on
as $$
  -- A trigger then calls hark.drop_watch_row().
  update hark.watches w set removed = true
  where w.function_schema = $1.function_schema and w.function_name = $1.function_name and w.owner = $1.owner
$$;

-- Drops the function of a watch that has no triggers any more, with the function of its snapshot. A function of
-- an earlier owner of the table may belong to a role that the caller cannot act for. Nothing calls it then.
create or replace function hark.drop_watch_function(function oid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  f record;
begin
  select p.proname, n.nspname, p.proowner into f
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace where p.oid = function;
  if not found or not hark.is_watch_function(function) or exists (select from pg_trigger g where g.tgfoid = function) then
    return;
  elsif not pg_has_role(f.proowner, 'usage') then
    raise notice 'function % is left: it belongs to role "%", and no trigger calls it', function::regprocedure,
      pg_get_userbyid(f.proowner);
    return;
  end if;
  execute format('drop function %s', function::regprocedure);
  perform hark.drop_snapshot_function(f.nspname, f.proname, pg_get_userbyid(f.proowner));
end
$$;

-- Removes a watch whose table is gone, with what is left of its function.
create or replace function hark.forget_watch(relation_name text, name text default 'watch') returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  known record;
begin
  select k.* into known from hark.known_watches() k
  where k.relation is null and format('%s.%s', (k.watch).table_schema, (k.watch).table_name) = $1 and (k.watch).name = $2
  order by k.is_live limit 1;
  if not found then
    return false;
  elsif known.is_live then
    raise exception 'the watch "%" still has triggers on table %', $2, known.left_on::regclass
      using errcode = 'HK008', hint = format('End it: select hark.unwatch(%L, %L).', known.left_on::regclass, $2);
  end if;
  perform hark.delete_watch(known.watch);
  if known.is_own then
    perform hark.drop_watch_function(known.function);
  end if;
  return true;
end
$$;

-- Removes the row of a watch for a role that may change it: see the column.
create or replace function hark.drop_watch_row() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.watches w
  where w.function_schema = new.function_schema and w.function_name = new.function_name and w.owner = new.owner;
  return null;
end
$$;

-- After an upgrade, makes those trigger functions anew that another version of Hark made. Their triggers stay
-- as they are, so that no table is locked; what those lack is reported as drift. So is a function that this
-- role may not change, and whatever else its owner has put in the way: no role may stop an upgrade.
create or replace function hark.renew_watches() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
as $$
declare
  w record;
  statement text;
begin
  for w in
    select k.relation, n.nspname::text as schema_name, p.proname::text as function_name, p.prosrc, (k.watch).definition
    from hark.known_watches() k
    join pg_proc p on p.oid = k.function
    join pg_namespace n on n.oid = p.pronamespace
    join pg_class c on c.oid = k.relation and c.relowner = p.proowner
    where (k.watch).definition -> 'columns' = (
      select coalesce(jsonb_object_agg(a.attnum, a.attname), '{}') from pg_attribute a
      where a.attrelid = k.relation and a.attnum > 0 and not a.attisdropped)
  loop
    begin
      continue when w.prosrc = hark.watch_body(w.relation, w.definition);
      foreach statement in array hark.watch_function_script(w.relation, w.definition, w.schema_name, w.function_name) loop
        execute statement;
      end loop;
    exception when others then
      raise warning 'the watch of table % still has the trigger function of an earlier version: %',
        w.relation::regclass, sqlerrm
        using hint = 'As the owner of the table: hark watch repair.';
    end;
  end loop;
end
$$;
