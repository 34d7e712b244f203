-- The definition of a watch, and the text of its trigger function.

-- Checks the arguments of hark.watch, and makes a definition of them.
create or replace function hark.watch_definition(
  relation oid, channel text, name text, operations text[], include text[], exclude text[], key text[], condition text,
  if_changed text[], payload text, headers jsonb, max_bytes bigint, replicated boolean, level text
) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
declare
  chosen record;
  of record;
  wrong text;
  known constant text[] := array['insert', 'update', 'delete', 'truncate'];
begin
  perform hark.require_watchable(relation);
  select k.relkind, k.relname, n.nspname into of
  from pg_class k join pg_namespace n on n.oid = k.relnamespace where k.oid = relation;
  channel := coalesce(channel, left(format('%s.%s', of.nspname, of.relname), 200));
  if char_length(channel) not between 1 and 200 then
    raise exception 'channel "%" has % characters', left(channel, 80), char_length(channel)
      using errcode = 'HK006', hint = 'Give a channel of 1 to 200 characters.';
  elsif name is null or octet_length(name) not between 1 and 40 then
    raise exception 'the name "%" of the watch is empty or too long', left(name, 80)
      using errcode = 'HK006', hint = 'Give a name of 1 to 40 bytes.';
  end if;
  operations := array(select distinct lower(o.o) from unnest(operations) o (o) order by 1);
  select o.o into wrong from unnest(operations) o (o) where not coalesce(o.o = any (known), false) limit 1;
  if operations = '{}' or found then
    raise exception 'operations are %', operations
      using errcode = 'HK006', hint = 'Give some of insert, update, delete and truncate.';
  elsif payload is null or not payload = any (array['full', 'new', 'diff', 'key']) then
    raise exception 'unknown payload "%"', payload using errcode = 'HK006', hint = 'Give full, new, diff or key.';
  elsif level is null or not level = any (array['auto', 'statement', 'row']) then
    raise exception 'unknown level "%"', level using errcode = 'HK006', hint = 'Give auto, statement or row.';
  elsif max_bytes is null or max_bytes not between 1000 and 67108864 then
    raise exception 'max_bytes is %', max_bytes using errcode = 'HK006', hint = 'Give 1000 to 67108864 (64 MiB).';
  elsif headers is not null and jsonb_typeof(headers) <> 'object' then
    raise exception 'the headers are %, which is not an object', left(headers::text, 80)
      using errcode = 'HK006', hint = 'Give an object, such as {"source": "app"}.';
  elsif include is not null and exclude is not null then
    raise exception 'both include and exclude are given' using errcode = 'HK006', hint = 'Give only one of them.';
  end if;
  perform hark.require_columns(relation, 'include', include);
  perform hark.require_columns(relation, 'exclude', exclude);
  perform hark.require_columns(relation, 'key', key);
  if if_changed <> '{*}' then
    perform hark.require_columns(relation, 'if_changed', if_changed);
  end if;
  select * into chosen from hark.watch_mode(relation, coalesce(replicated, false));
  if level = 'statement' and chosen.mode <> 'statement' and (of.relkind <> 'r' or replicated
    or exists (select from pg_inherits i where relation = any (array[i.inhrelid, i.inhparent])))
  then
    raise exception 'table % cannot be watched with statement triggers: %', relation::regclass, chosen.reason
      using errcode = 'HK006', hint = 'Leave the level out, or give auto.';
  elsif level <> 'auto' and chosen.mode <> 'instead' then
    chosen.mode := level;
    chosen.reason := 'as requested';
  end if;
  if condition is not null then
    -- In the brackets of a type's name, the condition must be one expression.
    begin
      perform to_regtype('pg_catalog.hark_condition(' || condition || E'\n)');
    exception when others then
      raise exception 'the condition "%" cannot be used: %', left(condition, 200), sqlerrm using errcode = 'HK006',
        hint = 'Give one condition on old and new, such as new.status = ''paid''.';
    end;
  end if;
  return jsonb_build_object('relation', relation::text, 'schema', of.nspname, 'table', of.relname, 'name', name,
    'channel', channel, 'operations', operations, 'include', include, 'exclude', exclude, 'key', key,
    'condition', condition, 'if_changed', if_changed, 'payload', payload, 'headers', headers, 'max_bytes', max_bytes,
    'replicated', coalesce(replicated, false), 'level', level, 'mode', chosen.mode, 'reason', chosen.reason,
    'tree', cardinality(hark.tree_of(relation)) > 1 or of.relkind = 'p',
    'columns', (select coalesce(jsonb_object_agg(a.attnum, a.attname), '{}') from pg_attribute a
      where a.attrelid = relation and a.attnum > 0 and not a.attisdropped));
end
$$;

-- The watched table that a trigger's row belongs to. For a partition, it is the highest table above it that
-- has the same trigger function.
create or replace function hark.watched_root(relation oid, function oid) returns oid
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with recursive up (relation, height) as (
    select $1, 0
    union
    select i.inhparent, u.height + 1 from up u join pg_inherits i on i.inhrelid = u.relation
  )
  select coalesce((
    select u.relation from up u
    where exists (select from pg_trigger t where t.tgrelid = u.relation and t.tgfoid = $2)
    order by u.height desc limit 1
  ), $1)
$$;

-- Statements that publish, as lines of the trigger function.
create or replace function hark.publishing(statements text[]) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format(E'    %s;\n    hark.wrote := hark.wrote or found;\n', s.statement), '' order by s.place)
  from unnest($1) with ordinality s (statement, place)
$$;

-- The text of the trigger function.
create or replace function hark.watch_body(relation oid, definition jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
declare
  d jsonb := definition;
  tree boolean := (d ->> 'tree')::boolean;
  by_statement boolean := d ->> 'mode' = 'statement';
  old text := case when by_statement then 'hark_old' else '(select (old).*)' end;
  new text := case when by_statement then 'hark_new' else '(select (new).*)' end;
  composites oid[] := hark.composites_of(relation);
  root text := case when tree then relation::text else 'tg_relid' end;
  shape_query text := hark.shape_query(case when cardinality(composites) = 1 then root
    else format('any (array[%s, %s]::oid[])', root, array_to_string(composites[2:], ', ')) end);
  shape bigint;
  branches text := '';
  branch text;
  operation text;
  statements text[];
  unmoved text[];
  facts text := case when tree then null
    else '''table'', hark.of_table, ''action'', hark.operation, ''schema'', hark.of_schema%2$s, ''metadata'', hark.metadata' end;
  executed text := format(E'      execute hark.statement using %s, hark.head, hark.headers;\n      get diagnostics hark.made = row_count;',
    case when d ->> 'mode' = 'statement' then 'null::text, null::text' else 'old, new' end);
begin
  execute replace(shape_query, 'tg_relid', relation::text) into shape;
  foreach operation in array array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] loop
    if d -> 'operations' ? lower(operation) then
      statements := hark.watch_statements(relation, d, operation, old, new, 'hark.head', 'hark.headers', facts);
      branch := hark.publishing(statements);
      -- Whether a key has moved is found by a look at the keys alone. Mostly none has. Then one statement will do, and
      -- if the payload needs no old rows, new rows need not be joined to them.
      if by_statement and operation = 'UPDATE' and cardinality(statements) = 2 then
        unmoved := case
          when d ->> 'payload' = any (array['key', 'new']) and jsonb_typeof(d -> 'condition') = 'null'
            and jsonb_typeof(d -> 'if_changed') = 'null'
          then hark.watch_statements(relation, d || '{"operations": ["insert"]}', 'INSERT', old, new, 'hark.head', 'hark.headers', facts)
          else hark.watch_statements(relation, d, operation, old, new, 'hark.head', 'hark.headers', facts, true)
        end;
        branch := format(E'    if %s then\n%s    else\n%s    end if;\n', hark.keys_differ(hark.described(relation, d), old, new),
          branch, hark.publishing(unmoved));
      end if;
      branches := branches || format(E'  elsif tg_op = %L then\n', operation) || branch;
    end if;
  end loop;
  return format($body$
-- Created by hark.watch. Its next call for this watch replaces the function.
#variable_conflict use_column
<<hark>>
declare
  -- Referred to as hark.of_schema and so on, so that a column of the same name is not taken instead.
  of_schema text := tg_table_schema;
  of_table text := tg_table_name;
  operation text := tg_op;
  metadata jsonb;
  head jsonb;
  headers jsonb;
  wrote boolean := false;
  statement text;
  made bigint;
begin
  if to_regclass('hark.published') is null then
    raise warning 'Hark is not installed in this database: changes of %% are not published', tg_relid::regclass;
    return %1$s;
  end if;%2$s%15$s
  metadata := jsonb_build_object(
    'user', session_user, 'role', coalesce(nullif(current_setting('role'), 'none'), session_user),
    'application', current_setting('application_name'), 'session', pg_backend_pid(),
    'transaction', pg_current_xact_id()::text);
  head := jsonb_build_object('id', null, 'schema', %3$s, 'table', %4$s, 'action', tg_op, 'metadata', hark.metadata)%5$s;
  headers := hark.with_context(%6$L);
  if (%7$s) is distinct from %8$s then
    -- The table's columns have changed since this function was created: build the statements anew.
    for hark.statement in select s.s from unnest(hark.watch_statements(
      hark.watched_root(tg_relid, (select t.tgfoid from pg_trigger t where t.tgrelid = tg_relid and t.tgname = tg_name)),
      %9$L, tg_op, %10$L, %11$L, '$3', '$4')) s (s)
    loop
%12$s
      hark.wrote := hark.wrote or hark.made > 0;
    end loop;
%13$s  end if;
  if hark.wrote then
    perform hark.wake(%14$L);
  end if;
  return %1$s;
end
$body$,
    case when d ->> 'mode' = 'instead' then 'case when tg_op = ''DELETE'' then old else new end' else 'null' end,
    case when d ->> 'mode' = 'instead' then $instead$
  if not exists (
    select from pg_trigger t where t.tgrelid = tg_relid and t.tgname < tg_name and t.tgtype & 64 <> 0
      and t.tgtype & case tg_op when 'INSERT' then 4 when 'DELETE' then 8 else 16 end <> 0 and t.tgenabled <> 'D'
  ) then
    raise exception 'view % no longer has an INSTEAD OF trigger of its own for %', tg_relid::regclass, tg_op
      using hint = 'Create one, or end the watch: select hark.unwatch(...).';
  end if;$instead$ else '' end,
    case when tree then quote_literal(d ->> 'schema') else 'tg_table_schema' end,
    case when tree then quote_literal(d ->> 'table') else 'tg_table_name' end,
    case when tree then format(E'\n    || case when tg_relid = %s then ''{}''::jsonb else jsonb_build_object(''partition'', tg_table_name) end', relation) else '' end,
    nullif(d -> 'headers', 'null'),
    shape_query, coalesce(shape::text, 'null'),
    d, replace(old, '(old)', '($1)'), replace(new, '(new)', '($2)'),
    case when jsonb_typeof(d -> 'condition') = 'null' then executed
      -- What the condition names may be gone. Then publish too much rather than fail the write.
      else format($guarded$      begin
%s
      exception when undefined_column or undefined_table or undefined_function or undefined_object or datatype_mismatch then
        raise warning 'the condition of the watch "%s" cannot be used any more (%%) and is ignored', sqlerrm
          using hint = 'All changes are published until the table is watched with another condition.';
        hark.statement := replace(hark.statement, %L, '(true)');
%s
      end;$guarded$, executed, replace(replace(d ->> 'name', '''', ''''''), '%', '%%'),
        '(' || (d ->> 'condition') || E'\n)', executed) end,
    branches, d ->> 'channel',
    -- A statement may change no rows, as for the UPDATE triggers of an INSERT ... ON CONFLICT. It then takes
    -- no transaction number.
    case when by_statement then $empty$
  if tg_op = 'DELETE' then
    if not exists (select from hark_old) then
      return null;
    end if;
  elsif tg_op <> 'TRUNCATE' then
    if not exists (select from hark_new) then
      return null;
    end if;
  end if;$empty$ else '' end);
end
$$;
