-- Hark 016: changes of tables, the ground: publishing from a trigger, context, and how a row becomes JSON.
--
-- A watched table has triggers whose function belongs to the table's owner and is generated from the table's
-- columns (017). What a user supplies (types and their casts, conditions, columns) runs with that owner's rights,
-- never with Hark's. Only this is called with Hark's: an insert into hark.published, and hark.wake.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (16, 'changes');

-- Many notifications by one statement, for generated triggers. The columns that order reading (xid, id) are not
-- in it, so nobody can forge them: they are the log's own defaults, in the log's order (001).
create view hark.published as select l.channel, l.key, l.payload, l.headers from hark.log l;
comment on view hark.published is 'For triggers of watched tables: insert only. Publish with hark.notify.';

-- The watches of tables, and how far the snapshot of each is. Row security lets each role see and change those of
-- the owners it belongs to. That a table is another's is checked where something is done with it.
create table hark.watches (
  function_schema text not null,
  function_name text not null,
  table_schema text not null,
  table_name text not null,
  name text not null,
  owner text not null,
  -- A role may write the rows of its own tables, and what it writes there is not to fail hark.watches() for others.
  definition jsonb not null check (coalesce(jsonb_path_match(definition, '
    $.relation.type() == "string" && $.schema.type() == "string" && $.table.type() == "string"
    && $.name.type() == "string" && $.channel.type() == "string"
    && $.operations.type() == "array" && !exists($.operations[*] ? (@.type() != "string"))
    && !exists($.key ? (@.type() != "null")[*] ? (@.type() != "string"))
    && !exists($.include ? (@.type() != "null")[*] ? (@.type() != "string"))
    && !exists($.exclude ? (@.type() != "null")[*] ? (@.type() != "string"))
    && !exists($.if_changed ? (@.type() != "null")[*] ? (@.type() != "string"))
    && !exists($.condition ? (@.type() != "null" && @.type() != "string"))
    && !exists($.headers ? (@.type() != "null" && @.type() != "object"))
    && $.payload.type() == "string" && $.max_bytes >= 1000 && $.max_bytes <= 67108864
    && $.replicated.type() == "boolean" && $.tree.type() == "boolean"
    && $.level.type() == "string" && $.mode.type() == "string"
    && $.columns.type() == "object" && !exists($.columns.keyvalue() ? (!(@.key like_regex "^[1-9][0-9]{0,3}$")
      || @.value.type() != "string"))
    ', silent => true), false)),
  snapshot_wanted boolean not null default false,
  snapshot_after jsonb,
  snapshot_count bigint not null default 0,
  snapshot_done_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  primary key (function_schema, function_name, owner)
);
comment on table hark.watches is 'Which tables are watched, and how: see hark.watch and hark.watches().';
alter table hark.watches enable row level security;
create policy of_its_owner on hark.watches
  using (exists (select from pg_roles r where r.rolname = owner and pg_has_role(r.oid, 'usage')));

-- Wakes who waits for a channel on which this transaction has published by hark.published. Called in a statement
-- after the insert: the transaction has its number then.
create function hark.wake(channel text) returns void
language plpgsql volatile security definer
as $$
begin
  if coalesce(pg_catalog.current_setting('hark.wake', true), '') operator(pg_catalog.<>) 'off'
    and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5
  then
    perform pg_catalog.pg_notify('hark', $1);
  end if;
end
$$;

-- What is to travel with the notifications of this transaction, or of this session: who, for whom, in which trace.
-- It becomes part of their headers. A role that may not call this can SET LOCAL hark.context to the text of an object.
create function hark.set_context(context jsonb, for_session boolean default false) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if context is not null and jsonb_typeof(context) <> 'object' then
    raise exception 'the context is %, which is not an object', left(context::text, 80)
      using errcode = 'HK006', hint = 'Give an object, such as {"tenant": 7}, or null to remove it.';
  end if;
  perform set_config('hark.context', coalesce(context::text, ''), not coalesce(for_session, false));
end
$$;
comment on function hark.set_context(jsonb, boolean) is
  'Facts that travel as headers with what triggers publish: of this transaction, or with for_session of this session.';

-- The context, over the headers given. Somebody may have set the parameter by hand, to anything: no write fails for
-- that, it is left out with a warning.
create function hark.with_context(headers jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  given text := current_setting('hark.context', true);
  context jsonb;
begin
  if coalesce(given, '') = '' then
    return headers;
  end if;
  begin
    context := given::jsonb;
  exception when data_exception or program_limit_exceeded or statement_too_complex then
    context := null;
  end;
  if context is null or jsonb_typeof(context) <> 'object' then
    raise warning 'hark.context is no JSON object and is left out: %', left(given, 80)
      using hint = 'Set it with hark.set_context.';
    return headers;
  end if;
  return coalesce(headers, '{}') || context;
end
$$;

create function hark.json_tried(value text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return value::jsonb;
exception when data_exception or program_limit_exceeded or feature_not_supported then
  return to_jsonb(value);
end
$$;

-- A value of type json, as jsonb where that can hold it, else its text as a string: NUL and lone surrogates, numbers
-- beyond numeric, and what is nested deeper than the server's stack are refused by jsonb. Most values are told by
-- looking, as trying costs a subtransaction.
create function hark.json_value(value json) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when value is null then null
    when octet_length(value::text) > 16777216
      or strpos(value::text, '\u') > 0
        and (getdatabaseencoding() <> 'UTF8' or value::text ~* '\\u(0000|d[89a-f])')
      or value::text ~ '[0-9][eE][+-]?[0-9]{3,}' or value::text ~ '[0-9]{255}'
      or length(value::text) - length(translate(value::text, '[{', '')) > 1000
    then hark.json_tried(value::text)
    else value::text::jsonb
  end
$$;

-- The type beneath a domain.
create function hark.base_type(type oid) returns oid
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  t record;
begin
  loop
    select p.typtype, p.typbasetype into t from pg_type p where p.oid = type;
    exit when not found or t.typtype <> 'd';
    type := t.typbasetype;
  end loop;
  return type;
end
$$;

-- Whether to_jsonb can be given values of a type: it then calls nothing of a user's, and cannot fail. For types that
-- are not PostgreSQL's own it looks for a cast to json, which may be anybody's function.
create function hark.is_plain(type oid) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  base oid := hark.base_type(type);
  element oid;
  composite oid;
begin
  select e.oid into element from pg_type t join pg_type e on e.oid = t.typelem and e.typarray = t.oid where t.oid = base;
  if found then
    return hark.is_plain(element);
  end if;
  select t.typrelid into composite from pg_type t where t.oid = base and t.typtype = 'c';
  if found then
    return not exists (
      select from pg_attribute a
      where a.attrelid = composite and a.attnum > 0 and not a.attisdropped and not hark.is_plain(a.atttypid)
    );
  end if;
  return base < 16384 and base <> all (array['json'::regtype, '"char"'::regtype]::oid[]);
end
$$;

-- A reference to a column, as its base type of any length: "character" alone would be one of them.
create function hark.as_base(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when hark.base_type($2) = $2 then $1
    else format('(%s)::%s', $1, format_type(hark.base_type($2), -1)) end
$$;

-- The text of a value by its type's output function, never by a cast, which a user may have made.
create function hark.output_of(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when exists (select from pg_type e where e.oid = t.typelem and e.typarray = t.oid) then format('array_out(%s)::text', b.reference)
    when t.typtype = 'e' then format('enum_out(%s)::text', b.reference)
    when t.typtype = 'r' then format('range_out(%s)::text', b.reference)
    when t.typtype = 'm' then format('multirange_out(%s)::text', b.reference)
    when t.typtype = 'c' then format('record_out(%s)::text', b.reference)
    when t.oid < 16384 then format('(%s)::text', b.reference)
    else format('case when %1$s is null then null else format(''%%s'', %1$s) end', b.reference)
  end
  from pg_type t, (select hark.as_base($1, $2)) b (reference)
  where t.oid = (select hark.base_type($2))
$$;

-- The expression of a column's value as jsonb.
create function hark.value_of(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when t.oid = 'jsonb'::regtype then b.reference
    when hark.is_plain(t.oid) then format('to_jsonb(%s)', b.reference)
    when t.oid = 'json'::regtype then format('hark.json_value(%s)', b.reference)
    -- From 128 up it is half a character, which PostgreSQL before 16 gives as it is.
    when t.oid = '"char"'::regtype then format(
      'to_jsonb(case when (%1$s)::int4 < 0 then ''\'' || ((%1$s)::int4 + 256) / 64'
      ' || ((%1$s)::int4 + 256) / 8 %% 8 || ((%1$s)::int4 + 256) %% 8 else (%1$s)::text end)', b.reference)
    when e.oid is not null and e.typdelim = ',' then
      format('to_jsonb((%s)::text[])', hark.output_of($1, $2))
    else format('to_jsonb(%s)', hark.output_of($1, $2))
  end
  from pg_type t
  cross join (select hark.as_base($1, $2)) b (reference)
  left join pg_type e on e.oid = t.typelem and e.typarray = t.oid
  where t.oid = (select hark.base_type($2))
$$;

-- The expression of a key column's text: values that are equal have one text.
create function hark.key_text(reference text, type oid, collated oid) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  base oid := hark.base_type(type);
  value text := hark.as_base(reference, type);
  kind "char" := (select t.typtype from pg_type t where t.oid = base);
  one_text constant oid[] := array['int2', 'int4', 'int8', 'oid', 'bool', 'uuid', 'date', 'timestamp', 'timestamptz',
    'time', 'name', 'bytea', 'inet', 'cidr', 'macaddr', 'macaddr8', 'bpchar', 'pg_lsn', 'xid8']::regtype[];
begin
  if base = any (one_text) or kind = 'e'
    or base = any (array['text', 'varchar']::regtype[]::oid[])
      and coalesce((select c.collisdeterministic from pg_collation c where c.oid = collated), true)
  then
    return hark.output_of(reference, type);
  elsif base = 'numeric'::regtype then
    return format('trim_scale(%s)::text', value);
  elsif base = any (array['float4', 'float8']::regtype[]::oid[]) then
    return format('(%s + 0)::text', value);
  elsif exists (
    select from pg_opclass o join pg_am m on m.oid = o.opcmethod
    where m.amname = 'hash' and o.opcdefault and o.opcintype = base
  ) then
    return format('case when %1$s is null then null else ''#'' || hash_record_extended(row(%1$s), 0) end', value);
  end if;
  return hark.output_of(reference, type);
end
$$;

-- The condition that two values of a column are not the same: not only unequal, as 1.0 and 1.00 are equal.
create function hark.differs(old text, new text, type oid, collated oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when $3 = any (array['int2', 'int4', 'int8', 'oid', 'bool', 'uuid', 'date', 'timestamp', 'timestamptz']::regtype[]::oid[])
      or $3 = any (array['text', 'varchar']::regtype[]::oid[])
        and coalesce((select c.collisdeterministic from pg_collation c where c.oid = $4), true)
    then format('%s is distinct from %s', $1, $2)
    else format('row(%s)::record *<> row(%s)::record', $1, $2)
  end
$$;

-- How many bytes of jsonb a value makes, about, without making it.
create function hark.size_of(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when t.typlen > 0 then '40'
    when t.oid = any (array['text', 'varchar', 'bpchar']::regtype[]::oid[])
      then format('coalesce(octet_length(%s), 0)', b.reference)
    when t.oid = 'bytea'::regtype then format('2 * coalesce(octet_length(%s), 0)', b.reference)
    -- In an array it is unpacked, whatever its type.
    when t.oid = any (array['xml', 'jsonb', 'numeric']::regtype[]::oid[])
      then format('coalesce(pg_column_size(array[%s])::bigint, 0)', b.reference)
    when t.oid = 'json'::regtype then format('coalesce(2 * pg_column_size(array[%s])::bigint, 0)', b.reference)
    -- An element of an array may be null, which takes a bit there.
    when e.oid = any (array['text', 'varchar', 'bpchar', 'jsonb', 'numeric']::regtype[]::oid[])
      then format('pg_column_size(array[%1$s])::bigint + 16 * coalesce(cardinality(%1$s), 0)', b.reference)
    when e.oid is not null
      then format('4 * pg_column_size(array[%1$s])::bigint + %2$s * coalesce(cardinality(%1$s), 0)', b.reference,
        -- The names of a composite type's columns stand in each element.
        16 + coalesce((select sum(octet_length(a.attname::text) + 16) from pg_attribute a
          where a.attrelid = (select c.typrelid from pg_type c where c.oid = hark.base_type(e.oid)) and a.attnum > 0), 0))
    else format('coalesce(10 * pg_column_size(array[%s])::bigint, 0)', b.reference)
  end
  from pg_type t
  cross join (select hark.as_base($1, $2)) b (reference)
  left join pg_type e on e.oid = t.typelem and e.typarray = t.oid
  where t.oid = (select hark.base_type($2))
$$;

revoke execute on all functions in schema hark from public;
