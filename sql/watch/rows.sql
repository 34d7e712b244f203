-- How a row becomes JSON, on which the publishing of table changes rests.
--
-- A watched table has triggers whose function belongs to the table's owner and is generated from the
-- table's columns (statements.sql). What a user supplies (types and their casts, conditions, columns) runs
-- with that owner's rights, never with Hark's. Two things only run with Hark's rights: an insert into
-- hark.published, and hark.wake.

create or replace function hark.json_tried(value text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return value::jsonb;
exception when data_exception or program_limit_exceeded or feature_not_supported then
  return to_jsonb(value);
end
$$;

-- A value of type json, as jsonb if that can hold it, else its text as a string. jsonb refuses NUL and lone
-- surrogates, numbers beyond numeric, and nesting deeper than the server's stack. Most values are recognised
-- by looking, because trying costs a subtransaction.
create or replace function hark.json_value(value json) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when value is null then null
    when octet_length(value::text) > 16777216
      or strpos(value::text, E'\\u') > 0
        and (getdatabaseencoding() <> 'UTF8' or value::text ~* E'\\\\u(0000|d[89a-f])')
      or value::text ~ '[0-9][eE][+-]?[0-9]{3,}' or value::text ~ '[0-9]{255}'
      or length(value::text) - length(translate(value::text, '[{', '')) > 1000
    then hark.json_tried(value::text)
    else value::text::jsonb
  end
$$;

-- The type beneath a domain.
create or replace function hark.base_type(type oid) returns oid
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

-- Whether to_jsonb can be given values of a type. If so, it calls no user's function and cannot fail. For
-- types that are not PostgreSQL's own it looks for a cast to json, which may be any user's function.
create or replace function hark.is_plain(type oid) returns boolean
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
create or replace function hark.as_base(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when hark.base_type($2) = $2 then $1
    else format('(%s)::%s', $1, format_type(hark.base_type($2), -1)) end
$$;

-- The text of a value by its type's output function. Never by a cast, which a user may have made.
create or replace function hark.output_of(reference text, type oid) returns text
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
create or replace function hark.value_of(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when t.oid = 'jsonb'::regtype then b.reference
    when hark.is_plain(t.oid) then format('to_jsonb(%s)', b.reference)
    when t.oid = 'json'::regtype then format('hark.json_value(%s)', b.reference)
    -- A value from 128 up is half a character, which PostgreSQL before 16 outputs as it is.
    when t.oid = '"char"'::regtype then format(
      E'to_jsonb(case when (%1$s)::int4 < 0 then E''\\\\'' || ((%1$s)::int4 + 256) / 64'
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

-- The expression of a key column's text. Equal values have the same text.
create or replace function hark.key_text(reference text, type oid, collated oid) returns text
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

-- The condition that two values of a column are not the same. Unequal is not enough: 1.0 and 1.00 are equal.
create or replace function hark.differs(old text, new text, type oid, collated oid) returns text
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

-- About how many bytes of jsonb a value makes, computed without making it.
create or replace function hark.size_of(reference text, type oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when t.typlen > 0 then '40'
    when t.oid = any (array['text', 'varchar', 'bpchar']::regtype[]::oid[])
      then format('coalesce(octet_length(%s), 0)', b.reference)
    when t.oid = 'bytea'::regtype then format('2 * coalesce(octet_length(%s), 0)', b.reference)
    -- In an array a value is unpacked, whatever its type.
    when t.oid = any (array['xml', 'jsonb', 'numeric']::regtype[]::oid[])
      then format('coalesce(pg_column_size(array[%s])::bigint, 0)', b.reference)
    when t.oid = 'json'::regtype then format('coalesce(2 * pg_column_size(array[%s])::bigint, 0)', b.reference)
    -- An element of an array may be null, which takes one bit there.
    when e.oid = any (array['text', 'varchar', 'bpchar', 'jsonb', 'numeric']::regtype[]::oid[])
      then format('pg_column_size(array[%1$s])::bigint + 16 * coalesce(cardinality(%1$s), 0)', b.reference)
    when e.oid is not null
      then format('4 * pg_column_size(array[%1$s])::bigint + %2$s * coalesce(cardinality(%1$s), 0)', b.reference,
        -- The names of a composite type's columns are repeated in each element.
        16 + coalesce((select sum(octet_length(a.attname::text) + 16) from pg_attribute a
          where a.attrelid = (select c.typrelid from pg_type c where c.oid = hark.base_type(e.oid)) and a.attnum > 0), 0))
    else format('coalesce(10 * pg_column_size(array[%s])::bigint, 0)', b.reference)
  end
  from pg_type t
  cross join (select hark.as_base($1, $2)) b (reference)
  left join pg_type e on e.oid = t.typelem and e.typarray = t.oid
  where t.oid = (select hark.base_type($2))
$$;
