-- What is watched, and the snapshot of a watch: publishing the rows that its table had before.

-- The watches and their drift.
create or replace function hark.watches() returns table (
  relation regclass, relation_name text, name text, channel text, level text, reason text, operations text[],
  payload text, key text[], definition jsonb, drift text[], snapshot_wanted boolean, snapshot_count bigint,
  snapshot_done_at timestamptz, created_at timestamptz
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  k record;
begin
  for k in
    select coalesce(w.relation, case when w.is_live then w.left_on end) as relation, w.left_on, w.function, (w.watch).*, coalesce((
        select format('%s.%s', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.oid = coalesce(w.relation, case when w.is_live then w.left_on end)
      ), format('%s.%s', (w.watch).table_schema, (w.watch).table_name)) as full_name
    from hark.known_watches() w order by full_name, (w.watch).name
  loop
    -- A watch that an earlier owner of the table left is not listed if the table is watched anew.
    continue when k.relation is null and exists (
      select from hark.known_watches() o where (o.watch).name = k.name and (o.watch).table_schema = k.table_schema
        and (o.watch).table_name = k.table_name and o.relation is not null
    );
    relation := k.relation::regclass; relation_name := k.full_name; name := k.name;
    channel := k.definition ->> 'channel'; reason := k.definition ->> 'reason'; payload := k.definition ->> 'payload';
    level := case when k.definition ->> 'mode' = 'statement' then 'statement' else 'row' end;
    definition := k.definition; snapshot_wanted := k.snapshot_wanted; snapshot_count := k.snapshot_count;
    snapshot_done_at := k.snapshot_done_at; created_at := k.created_at;
    -- Owners of tables may write their rows of hark.watches. A row that makes no sense must not
    -- hide the others.
    begin
      operations := array(select jsonb_array_elements_text(k.definition -> 'operations'));
      key := array(select c.name from hark.watched_columns(k.relation, k.definition) c
        where c.key_place is not null order by c.key_place);
      drift := case
        when k.left_on is not null
        then array['the table belongs to another role now; watch it again, as that role']
        else hark.drift_of(k.relation, k.function, k.definition) end;
    exception when others then
      drift := array[format('its definition cannot be read: %s; watch the table again', sqlerrm)];
    end;
    return next;
  end loop;
end
$$;
comment on function hark.watches() is
  'Which tables are watched, how, and what is not as it should be (drift).';

-- Whether the rows of a watched table have a key by which they can be read in pages: no column of it
-- can be null.
create or replace function hark.is_paged(relation oid, definition jsonb) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select hark.key_columns($1, $2) <> '{}' and not exists (
    select from pg_attribute a
    where a.attrelid = $1 and a.attnum = any (hark.key_columns($1, $2)) and (not a.attnotnull
      -- Types without an order.
      or hark.base_type(a.atttypid) = any (array['json', 'xml', 'point', 'line', 'lseg', 'box', 'path', 'polygon', 'circle',
        'xid', 'cid', 'txid_snapshot', 'pg_snapshot', 'aclitem']::regtype[]::oid[]))
  )
$$;

-- The text of the function that publishes a page of a table's rows, after the key in `after`. It locks these
-- rows against change until the page is committed. A writer that changes one of them later also publishes
-- later. A writer that changed one before is waited for, and has published by then. The end of a page is a
-- key that is looked up first: after a wait a row may have another key.
create or replace function hark.snapshot_body(relation oid, definition jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
declare
  d jsonb := definition || '{"operations": ["insert"]}';
  paged boolean := hark.is_paged(relation, definition);
  -- Longer than the name of any column, so that no name contains it.
  page constant text := '/*' || repeat('page ', 13) || '*/';
  names text;
  texts text;
  of_after text;
  of_last text;
begin
  select string_agg(format('r.%I', c.name), ', ' order by c.key_place),
    string_agg(hark.output_of(format('r.%I', c.name), c.type), ', ' order by c.key_place),
    string_agg(format('($1 ->> %s)::%s', c.key_place - 1, format_type(c.type, -1)), ', ' order by c.key_place),
    string_agg(format('($2 ->> %s)::%s', c.key_place - 1, format_type(c.type, -1)), ', ' order by c.key_place)
  into names, texts, of_after, of_last
  from hark.watched_columns(relation, d) c where c.key_place is not null;
  return format($body$
-- Made by hark.watch.
declare
  head jsonb := jsonb_build_object('schema', %1$L, 'table', %2$L, 'action', 'SNAPSHOT', 'metadata', jsonb_build_object(
    'user', session_user, 'role', coalesce(nullif(current_setting('role'), 'none'), session_user),
    'application', current_setting('application_name'), 'session', pg_backend_pid(),
    'transaction', pg_current_xact_id()::text));
  condition text := 'true';
begin
  if %3$L then
    execute format('select jsonb_build_array(%%s) from %%s r where %%s order by %%s offset $2 limit 1', %4$L, %5$L,
      case when after is null then 'true' else %6$L end, %7$L) into last using after, batch - 1;
    condition := case when after is null then 'true' else %6$L end || case when last is null then '' else %8$L end;
  end if;
  execute replace(%9$L, %12$L, condition) using after, last, head, hark.with_context(%10$L);
  get diagnostics made = row_count;
  if made > 0 then
    perform hark.wake(%11$L);
  end if;
  return next;
end
$body$, d ->> 'schema', d ->> 'table', paged, texts, relation::regclass, format('(%s) > (%s)', names, of_after), names,
    format(' and (%s) <= (%s)', names, of_last),
    (hark.watch_statements(relation, d, 'INSERT', null,
      format('(select r.* from %s r where %s %s)', relation::regclass, page,
        case when paged then format('order by %s for share of r', names) else '' end), '$3', '$4'))[1],
    nullif(d -> 'headers', 'null'), d ->> 'channel', page);
end
$$;

create or replace function hark.snapshot_function(function_schema text, function_name text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select format('%I.%I', $1, regexp_replace($2, '^hark_watch_', 'hark_snapshot_')) $$;

create or replace function hark.drop_snapshot_function(function_schema text, function_name text, owner text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  made regprocedure := to_regprocedure(hark.snapshot_function(function_schema, function_name) || '(jsonb, integer)');
begin
  if exists (select from pg_proc p where p.oid = made and pg_get_userbyid(p.proowner) = owner) then
    execute format('drop function %s', made);
  end if;
end
$$;

-- Runs the owner's function for a page, as that owner, and stores how far it came.
create or replace function hark.snapshot_page(watch hark.watches, batch integer, out made integer, out last jsonb)
language plpgsql volatile set search_path = pg_catalog, pg_temp set row_security = on
as $$
declare
  function text := hark.snapshot_function((watch).function_schema, (watch).function_name);
begin
  -- Locks the function against change. So when it is called, it is still the owner's and runs as the owner.
  if current_user <> (watch).owner and to_regprocedure(function || '(jsonb, integer)') is not null then
    execute format('alter function %s(jsonb, integer) security definer', function);
  end if;
  if not exists (
    select from pg_proc p
    where p.oid = to_regprocedure(function || '(jsonb, integer)') and p.prosecdef
      and pg_get_userbyid(p.proowner) = (watch).owner
  ) then
    raise exception 'function %, which publishes the rows, no longer exists', function
      using errcode = 'HK006', hint = 'Watch the table again, with snapshot => true.';
  end if;
  execute format('select s.made, s.last from %s($1, $2) s', function) into made, last using (watch).snapshot_after, batch;
  update hark.watches w set snapshot_after = coalesce(snapshot_page.last, w.snapshot_after),
    snapshot_count = w.snapshot_count + snapshot_page.made,
    snapshot_done_at = case when snapshot_page.last is null then clock_timestamp() end
  where w.function_schema = (watch).function_schema and w.function_name = (watch).function_name and w.owner = (watch).owner;
end
$$;

-- Makes a watch ready for its snapshot. The rows of a table without a key are published here, before any of
-- them can change: creating the triggers has locked the table against writing.
create or replace function hark.prepare_snapshot(relation regclass, name text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.watches;
  kind "char" := (select c.relkind from pg_class c where c.oid = relation);
  function text;
begin
  if not starts_with(current_setting('transaction_isolation'), 'read ') then
    raise exception 'a snapshot cannot be taken in a % transaction', upper(current_setting('transaction_isolation'))
      using errcode = 'HK002', hint = 'Use READ COMMITTED. Otherwise rows that are written during the snapshot are missed.';
  end if;
  select (k.watch).* into w from hark.known_watches() k where k.relation = $1 and (k.watch).name = $2;
  if kind = any (array['v', 'f']::"char"[]) then
    raise exception '%s % cannot have a snapshot: its rows cannot be locked', case kind when 'v' then 'view' else 'foreign table' end, relation
      using errcode = 'HK006', hint = 'Watch it without one.';
  end if;
  if not hark.is_paged(relation, w.definition) and w.created_at < transaction_timestamp() and w.snapshot_done_at is null then
    raise exception 'table % has no key (of columns that are never null), and its watch has already begun', relation
      using errcode = 'HK006', hint = 'Its rows can be published only when the watch begins. End the watch with hark.unwatch, then watch the table again with snapshot => true.';
  end if;
  function := hark.snapshot_function(w.function_schema, w.function_name);
  if not has_schema_privilege(w.owner, w.function_schema, 'create') then
    raise exception 'role "%", which owns table %, may not create a function in schema "%"', w.owner, relation, w.function_schema
      using errcode = 'insufficient_privilege', hint = format('grant create on schema %I to %I.', w.function_schema, w.owner);
  end if;
  if exists (select from pg_proc p where p.oid = to_regprocedure(function || '(jsonb, integer)') and pg_get_userbyid(p.proowner) <> w.owner) then
    raise exception 'function % exists already and does not belong to the owner of table %', function, relation
      using errcode = 'HK006', hint = 'Drop or rename it.';
  end if;
  execute format(E'create or replace function %s(after jsonb, batch integer, out made integer, out last jsonb) returns setof record\n'
    'language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp\n'
    'set timezone = ''UTC'' set datestyle = ''ISO, YMD'' set intervalstyle = postgres set extra_float_digits = 1\n'
    'set bytea_output = hex set array_nulls = on set standard_conforming_strings = on set jit = off\n'
    -- If policies of the table bind its owner, rows would be left out. This raises an error instead.
    'set row_security = off\nas %L', function, hark.snapshot_body(relation, w.definition));
  execute format('alter function %s(jsonb, integer) owner to %I', function, w.owner);
  execute format('revoke execute on function %s(jsonb, integer) from public', function);
  if not hark.is_paged(relation, w.definition) and w.snapshot_done_at is null then
    execute format('lock table %s in share mode', relation);
    perform hark.snapshot_page(w, null);
  end if;
end
$$;

-- Publishes the next rows that a watched table had before: a page a call, each in a transaction of its own,
-- until done. A row that changes during the snapshot may be published both as it is and by its change, in
-- the right order.
create or replace function hark.snapshot(relation regclass, name text default 'watch', batch integer default 1000)
returns table (published integer, total bigint, done boolean)
language plpgsql volatile rows 1 set search_path = pg_catalog, pg_temp set row_security = on
as $$
declare
  w hark.watches;
  before text := current_setting('lock_timeout');
  rows_now integer := batch;
begin
  if batch is null or batch not between 1 and 100000 then
    raise exception 'a batch cannot have % rows', coalesce(batch::text, 'null')
      using errcode = 'HK006', hint = 'Give 1 to 100000.';
  elsif not starts_with(current_setting('transaction_isolation'), 'read ') then
    raise exception 'a snapshot cannot be taken in a % transaction', upper(current_setting('transaction_isolation'))
      using errcode = 'HK002', hint = 'Use READ COMMITTED. The snapshot waits for rows that are being changed.';
  end if;
  w := hark.known_watch(relation, name);
  select * into w from hark.watches k where k.function_schema = w.function_schema and k.function_name = w.function_name
    and k.owner = w.owner for update;
  if w.snapshot_wanted and w.snapshot_done_at is not null then
    return query select 0, w.snapshot_count, true;
    return;
  end if;
  -- Also if the table or its columns have changed since.
  if not w.snapshot_wanted or (
    select p.prosrc from pg_proc p
    where p.oid = to_regprocedure(hark.snapshot_function(w.function_schema, w.function_name) || '(jsonb, integer)')
  ) is distinct from hark.snapshot_body(relation, w.definition)
  then
    update hark.watches k set snapshot_wanted = true where k.function_schema = w.function_schema
      and k.function_name = w.function_name and k.owner = w.owner;
    perform hark.prepare_snapshot(relation, name);
  end if;
  published := 0; total := w.snapshot_count; done := false;
  loop
    begin
      -- Gives up before PostgreSQL looks for a deadlock, which could end a writer of the application instead.
      perform set_config('lock_timeout', '200', true);
      select p.made, p.last is null into published, done from hark.snapshot_page(w, rows_now) p;
      perform set_config('lock_timeout', before, true);
      exit;
    -- serialization_failure: a row was moved to another partition while the page waited for it.
    exception when lock_not_available or deadlock_detected or serialization_failure then
      exit when rows_now = 1; -- that row is locked: nothing was published, the caller goes on
      rows_now := greatest(rows_now / 10, 1);
    end;
  end loop;
  total := total + published;
  return next;
end
$$;

-- Starts the snapshot anew, from the first row.
create or replace function hark.restart_snapshot(relation regclass, name text default 'watch') returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set row_security = on
as $$
declare
  w hark.watches;
begin
  w := hark.known_watch(relation, name);
  if not hark.is_paged(relation, w.definition) then
    raise exception 'table % has no key (of columns that are never null)', relation
      using errcode = 'HK006', hint = 'Its rows can be published only when the watch begins. End the watch with hark.unwatch, then watch the table again with snapshot => true.';
  end if;
  update hark.watches k set snapshot_wanted = true, snapshot_after = null, snapshot_count = 0, snapshot_done_at = null
  where k.function_schema = w.function_schema and k.function_name = w.function_name and k.owner = w.owner;
  perform hark.prepare_snapshot(relation, name);
end
$$;
